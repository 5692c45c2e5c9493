"""The table of datasets, and reading by position."""

import concurrent.futures
import inspect
import io
import json
import pathlib
import pickle
import shlex
import shutil
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from train.data import source
from train.losses import IGNORE_LABEL


@pytest.fixture
def copied_dir(digits_dir: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A prepared data directory that a test may damage."""
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    return tmp_path


@pytest.mark.parametrize("dataset", source.DATASETS.values(), ids=lambda dataset: dataset.name)
def test_rows_agree_with_tfds(dataset: source.Dataset, tmp_path: pathlib.Path) -> None:
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
    row = source.DATASETS[name]
    examples = source.load_source(name, "train", data_dir=digits_dir, label_key=row.label_keys[0])
    pixels = np.stack([example["image"] for example in examples]) / 255.0
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), row.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), row.std, atol=5e-5)


def test_examples_are_those_of_tfds(digits_dir: pathlib.Path) -> None:
    ours = source.load_source("digits", "test", data_dir=digits_dir)
    theirs = tfds.builder("digits", data_dir=digits_dir).as_data_source("test")
    assert len(ours) == len(theirs) == 360
    for position, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert sorted(our) == ["image", "index", "label"]
        np.testing.assert_array_equal(our["image"], their["image"])
        assert our["label"] == their["label"]
        assert our["index"] == position


def test_types_shapes_and_names(digits_train: source.Source) -> None:
    example = digits_train[0]
    assert example["image"].shape == digits_train.image_shape == (8, 8, 1)
    dtypes = {key: value.dtype for key, value in example.items()}
    assert dtypes == {"image": np.uint8, "label": np.int32, "index": np.int64}
    assert digits_train.num_classes == 10
    assert digits_train.class_names == tuple("0123456789")


@pytest.mark.parametrize("cache_bytes", [0, 1437 * 64 - 1, 1437 * 64])
def test_the_cache_changes_nothing(
    digits_dir: pathlib.Path, digits_train: source.Source, cache_bytes: int
) -> None:
    other = source.load_source("digits", "train", data_dir=digits_dir, cache_bytes=cache_bytes)
    for position in (0, 700, 700, 1436):
        first, second = digits_train[position], other[position]
        np.testing.assert_array_equal(first["image"], second["image"])
        assert (first["label"], first["index"]) == (second["label"], second["index"])
        # Writing to an example would otherwise change what the cache gives next.
        with pytest.raises(ValueError, match="read-only"):
            second["image"][...] = 0


def test_threads_may_share_a_source(digits_dir: pathlib.Path) -> None:
    shared = source.load_source("digits", "test", data_dir=digits_dir)
    alone = source.load_source("digits", "test", data_dir=digits_dir, cache_bytes=0)
    positions = np.random.default_rng(0).integers(0, 20, 400).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        examples = pool.map(shared.__getitem__, positions)
        for position, example in zip(positions, examples, strict=True):
            np.testing.assert_array_equal(example["image"], alone[position]["image"])


def test_positions_behave_as_in_a_sequence(digits_train: source.Source) -> None:
    assert digits_train[-1]["index"] == 1436
    assert digits_train[np.int64(3)]["index"] == 3
    for position in (1437, -1438):
        with pytest.raises(IndexError):
            digits_train[position]


def test_a_part_of_a_split(digits_dir: pathlib.Path) -> None:
    part = source.load_source("digits", "train[10:30]", data_dir=digits_dir)
    whole = source.load_source("digits", "train", data_dir=digits_dir)
    assert len(part) == 20
    np.testing.assert_array_equal(part[5]["image"], whole[15]["image"])
    assert part[5]["index"] == 5


def test_home_is_found(digits_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(digits_dir.parent))
    assert len(source.load_source("digits", "test", data_dir=f"~/{digits_dir.name}")) == 360


def test_a_source_can_be_sent_to_another_process(digits_train: source.Source) -> None:
    digits_train[5]  # something in the cache, which must not travel
    pickled = pickle.dumps(digits_train)
    assert len(pickled) < 1000
    program = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(len(s), s[5])"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], input=pickled, capture_output=True
    )
    assert result.stdout.decode() == f"1437 {digits_train[5]}\n", result.stderr.decode()


@pytest.mark.parametrize(
    ("name", "label_key", "message"),
    [
        ("digit", "label", "unknown dataset 'digit'. Did you mean 'digits'"),
        ("cifar1000", "label", "'cifar100' or 'cifar10'"),
        (
            "mnist",
            "label",
            "unknown dataset 'mnist'. Known: cifar10, cifar100, digit_scenes, digits.",
        ),
        (
            "cifar100",
            "coarse_lable",
            "label key of 'cifar100': 'coarse_lable'. Did you mean 'coarse_label'",
        ),
        ("digits", "index", "unknown label key of 'digits': 'index'. Known: label."),
    ],
)
def test_unknown_names(name: str, label_key: str, message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError) as error:
        source.load_source(name, "train", label_key=label_key, data_dir=tmp_path)
    assert message in str(error.value)
    assert not any(tmp_path.iterdir())


def test_unknown_split(digits_dir: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown split 'validation'.*'train', 'test'"):
        source.load_source("digits", "validation", data_dir=digits_dir)


def test_not_prepared_gives_the_command_that_prepares(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "it's here"
    with pytest.raises(FileNotFoundError) as error:
        source.load_source("cifar10", "train", data_dir=data_dir)
    message = str(error.value)
    assert "'cifar10' is not prepared" in message
    assert str(data_dir / "cifar10") in message
    assert "pip install tensorflow-datasets tensorflow-cpu" in message
    assert not data_dir.exists()

    # What the shell would hand to Python, with the download replaced.
    (command,) = (line for line in message.splitlines() if "python -c" in line)
    program, option, code = shlex.split(command)
    assert (program, option) == ("python", "-c")
    calls: list[Any] = []

    def builder(name: str, **arguments: Any) -> Any:
        inspect.signature(tfds.core.GeneratorBasedBuilder).bind(**arguments)
        calls.append((name, arguments))
        return types.SimpleNamespace(download_and_prepare=lambda: calls.append("prepared"))

    monkeypatch.setattr(tfds, "builder", builder)
    exec(code, {})
    arguments = {"data_dir": str(data_dir), "file_format": "array_record"}
    assert calls == [("cifar10", arguments), "prepared"]


def test_another_file_format_is_named(copied_dir: pathlib.Path) -> None:
    info = copied_dir / "digits" / "1.0.0" / "dataset_info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps({**content, "fileFormat": "tfrecord"}))
    with pytest.raises(FileNotFoundError, match="prepared as tfrecord"):
        source.load_source("digits", "train", data_dir=copied_dir)


@pytest.mark.parametrize("file", ["dataset_info.json", "digits-train.array_record-00000-of-00001"])
def test_a_missing_file_is_named(copied_dir: pathlib.Path, file: str) -> None:
    path = copied_dir / "digits" / "1.0.0" / file
    path.unlink()
    with pytest.raises(FileNotFoundError, match="incomplete; missing: ") as error:
        source.load_source("digits", "train", data_dir=copied_dir)
    assert str(path) in str(error.value)


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize("cache_bytes", [0, 200 * 2 * 64 * 64 - 1, 200 * 2 * 64 * 64])
def test_masks_are_those_of_tfds(digits_dir: pathlib.Path, cache_bytes: int) -> None:
    ours = source.load_source(
        "digit_scenes", "test", data_dir=digits_dir, label_key="mask", cache_bytes=cache_bytes
    )
    theirs = tfds.builder("digit_scenes", data_dir=digits_dir).as_data_source("test")
    assert (ours.num_classes, ours.class_names[:3]) == (11, ("background", "0", "1"))
    for position in (0, 199, 0):
        label = ours[position]["label"]
        assert (label.dtype, label.shape) == (np.int32, ours.label_shape)
        np.testing.assert_array_equal(label, theirs[position]["mask"][..., 0])
        np.testing.assert_array_equal(ours[position]["image"], theirs[position]["image"])


@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_ignored_pixels_come_as_the_ignore_label(
    digits_dir: pathlib.Path, cache_bytes: int
) -> None:
    scenes = source.load_source(
        "digit_scenes", "test", data_dir=digits_dir, label_key="mask", cache_bytes=cache_bytes
    )
    mask = np.zeros((64, 64), np.uint8)
    mask[3, 4], mask[5, 6] = 255, 10
    scenes._records = [{**scenes._records[0], "mask": as_png(mask)}] * 200
    for label in (scenes[7]["label"], scenes[7]["label"]):  # as read, and out of the cache
        assert (label[3, 4], label[5, 6], label[0, 0]) == (IGNORE_LABEL, 10, 0)


def test_a_mask_that_does_not_fit_is_named_by_its_example(digits_dir: pathlib.Path) -> None:
    scenes = source.load_source("digit_scenes", "test", data_dir=digits_dir, label_key="mask")
    wrong = as_png(np.full((64, 64), 11, np.uint8))
    scenes._records = [{**scenes._records[0], "mask": wrong}] * 200
    with pytest.raises(ValueError, match=r"got \[11\] in example 7 of digit_scenes test"):
        scenes[7]
