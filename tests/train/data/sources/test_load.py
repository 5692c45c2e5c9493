"""Datasets by name: label keys, the data directory, splits, and classes that do not match."""

import pathlib

import numpy as np
import pytest

from tests.train.data.example_images import write_image
from train.data.sources import datasets
from train.data.sources.datasets import Dataset
from train.data.sources.encoded_examples import EncodedExamples
from train.data.sources.load import check_same_classes, load_source, load_splits


class Opened(Exception):
    """The arguments with which a dataset was opened."""


def open_nothing(name: str, split: str, data_dir: str | None, label_key: str) -> EncodedExamples:
    raise Opened(name, split, data_dir, label_key)


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a dataset that two features can label, and that cannot be read."""
    row = Dataset("two_labels", "test", label_keys=("fine", "coarse"), open=open_nothing)
    monkeypatch.setitem(datasets.DATASETS, row.name, row)


@pytest.mark.usefixtures("dataset")
def test_first_label_key_is_the_default_and_the_home_directory_is_expanded() -> None:
    with pytest.raises(Opened) as opened:
        load_source("two_labels", "train[:5]", data_dir="~/tfds")
    expected = ("two_labels", "train[:5]", str(pathlib.Path.home() / "tfds"), "fine")
    assert opened.value.args == expected
    with pytest.raises(Opened) as opened:
        load_source("two_labels", "test", label_key="coarse")
    assert opened.value.args == ("two_labels", "test", None, "coarse")


def test_splits_with_images_of_different_sizes_are_refused(tmp_path: pathlib.Path) -> None:
    for side, split in ((4, "train"), (6, "test")):
        for name in ("cat", "dog"):
            write_image(tmp_path / split / name / "1.png", np.zeros((side, side), np.uint8))
    with pytest.raises(ValueError, match=r"= \(4, 4, 1\) in training and \(6, 6, 1\) in"):
        load_splits("image_folder", data_dir=tmp_path)
    train, test = load_splits("image_folder", data_dir=tmp_path, image_size=(4, 4))
    assert train.image_shape == test.image_shape == (4, 4, 1)


def test_only_masks_have_values_to_ignore(digits_dir: pathlib.Path) -> None:
    for name in ("digits", "digit_scenes"):
        with pytest.raises(ValueError, match=rf"no ignored_values for '{name}', got \(3,\)"):
            load_source(name, "test", data_dir=digits_dir, ignored_values=[3])


def test_classes_of_a_run_are_those_of_the_dataset(digits_dir: pathlib.Path) -> None:
    names = tuple("0123456789")
    assert load_source("digits", "test", data_dir=digits_dir, class_names=names).num_classes == 10
    with pytest.raises(ValueError, match=r"the 11 classes .* got 10 in 'digits'.*Missing: 'ten'"):
        load_source("digits", "test", data_dir=digits_dir, class_names=[*names, "ten"])


def test_scale_of_random_crops(digits_dir: pathlib.Path) -> None:
    fields = {"data_dir": digits_dir, "image_size": (64, 64)}
    scenes = load_source("digit_scenes", "test", crop_scale=(1.0, 1.0), **fields)  # type: ignore[arg-type]
    # Only a box of the whole image has its area and a possible aspect ratio.
    crops = [scenes.random_crop(3, np.random.default_rng(seed)) for seed in range(3)]
    for crop in crops:
        np.testing.assert_array_equal(crop["image"], scenes[3]["image"])
        np.testing.assert_array_equal(crop["label"], scenes[3]["label"])


def test_equal_names_pass() -> None:
    check_same_classes(["sky", "tree"], ("sky", "tree"), "data")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            ("tree", "sky", "house"),
            r"the 3 classes that this run was trained with, got 3 in data\. Moved: 'sky' was class "
            r"0 and is class 1, 'tree' was class 1 and is class 0\. A prediction",
        ),
        (("sky", "house"), r"got 2 in data\. Missing: 'tree'\. "),
        (("sky", "tree", "house", "car"), r"got 4 in data\. New: 'car'\. "),
        (("sky", "trees", "house"), r"Missing: 'tree'; new: 'trees'\. .* in another --workdir"),
    ],
)
def test_differences_are_named(found: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_same_classes(("sky", "tree", "house"), found, "data")
