"""The table of datasets agrees with what they are."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from train.data.sources import source
from train.data.sources.datasets import DATASETS, Dataset
from train.data.sources.folders import open_image_folder, open_mask_folder
from train.reporting.metrics import TASKS

FOLDERS = (open_image_folder, open_mask_folder)
PREPARED = [row for row in DATASETS.values() if row.open not in FOLDERS]


@pytest.mark.parametrize("name", DATASETS)
def test_rows_are_named_as_they_are_found_and_have_a_task(name: str) -> None:
    assert DATASETS[name].name == name
    assert DATASETS[name].task in TASKS
    assert DATASETS[name].label_keys


@pytest.mark.parametrize("dataset", PREPARED, ids=lambda dataset: dataset.name)
def test_rows_agree_with_tfds(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    # A builder knows its features without any data.
    features = tfds.builder(dataset.name, data_dir=tmp_path).info.features
    channels = features["image"].shape[-1]
    assert len(dataset.mean) == len(dataset.std) == channels
    assert all(0 < value < 1 for value in (*dataset.mean, *dataset.std))
    kinds = {"classification": tfds.features.ClassLabel, "segmentation": tfds.features.LabeledImage}
    labels = {key for key in features if isinstance(features[key], kinds[dataset.task])}
    assert set(dataset.label_keys) == labels


@pytest.mark.parametrize("name", ["digits", "digit_scenes"])
def test_mean_and_std_are_those_of_the_training_split(name: str, digits_dir: pathlib.Path) -> None:
    row = DATASETS[name]
    examples = source.load_source(name, "train", data_dir=digits_dir, label_key=row.label_keys[0])
    pixels = np.stack([example["image"] for example in examples]) / 255.0
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), row.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), row.std, atol=5e-5)
