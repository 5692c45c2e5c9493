"""Every row of the table of datasets is consistent and agrees with TFDS."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from train.data.sources.datasets import DATASETS, Dataset
from train.data.sources.image_folder import open_image_folder
from train.data.sources.load import load_source
from train.data.sources.mask_folder import open_mask_folder
from train.data.sources.tfds_examples import open_tfds
from train.reporting.metrics import TASK_METRICS

FOLDERS = (open_image_folder, open_mask_folder)
IN_TFDS = [row for row in DATASETS.values() if row.open not in FOLDERS]
# These need no download.
PREPARED_HERE = [
    row
    for row in IN_TFDS
    if row.open is open_tfds and type(tfds.builder(row.name)).__module__.startswith("train.")
]


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_is_consistent(name: str) -> None:
    row = DATASETS[name]
    assert row.name == name
    assert row.task in TASK_METRICS
    assert row.label_keys
    assert row.train_split != row.eval_split
    assert len(row.mean) == len(row.std)


@pytest.mark.parametrize("dataset", IN_TFDS, ids=lambda dataset: dataset.name)
def test_every_tfds_row_agrees_with_its_builder(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    # A builder knows its features without its data.
    features = tfds.builder(dataset.name, data_dir=tmp_path).info.features
    channels = features["image"].shape[-1]
    assert len(dataset.mean) == len(dataset.std) == channels
    assert all(0 < value < 1 for value in (*dataset.mean, *dataset.std))
    kinds = {"classification": tfds.features.ClassLabel, "segmentation": tfds.features.LabeledImage}
    labels = {key for key in features if isinstance(features[key], kinds[dataset.task])}
    assert set(dataset.label_keys) == labels


@pytest.mark.parametrize("row", PREPARED_HERE, ids=lambda row: row.name)
def test_mean_and_std_match_the_training_images(row: Dataset, digits_dir: pathlib.Path) -> None:
    examples = load_source(row.name, row.train_split, data_dir=digits_dir)
    pixels = np.stack([example["image"] for example in examples]) / 255.0
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), row.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), row.std, atol=5e-5)
