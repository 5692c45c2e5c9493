"""Prepared TFDS datasets: error messages name missing and damaged files."""

import inspect
import json
import pathlib
import pickle
import shlex
import shutil
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aff_jax.images.image_files import encode_png
from train.data.sources.data_source import Source
from train.data.sources.load import load_source
from train.data.sources.tfds_examples import open_tfds


@pytest.fixture
def copied_dir(digits_dir: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a copy of the prepared digits that a test may damage."""
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    return tmp_path


def test_error_has_the_command_that_prepares(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "it's here"
    with pytest.raises(FileNotFoundError) as error:
        load_source("cifar10", "train", data_dir=data_dir)
    message = str(error.value)
    assert "'cifar10' is not prepared" in message
    assert str(data_dir / "cifar10") in message
    assert "pip install tensorflow-datasets tensorflow-cpu" in message
    assert not data_dir.exists()

    # Run the code that the shell would pass to Python, without the download.
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


def test_error_names_another_file_format(copied_dir: pathlib.Path) -> None:
    info = copied_dir / "digits" / "1.0.0" / "dataset_info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps({**content, "fileFormat": "tfrecord"}))
    with pytest.raises(FileNotFoundError, match="prepared as tfrecord"):
        load_source("digits", "train", data_dir=copied_dir)


@pytest.mark.parametrize("file", ["dataset_info.json", "digits-train.array_record-00000-of-00001"])
def test_error_names_a_missing_file(copied_dir: pathlib.Path, file: str) -> None:
    path = copied_dir / "digits" / "1.0.0" / file
    path.unlink()
    with pytest.raises(FileNotFoundError, match="incomplete; missing: ") as error:
        load_source("digits", "train", data_dir=copied_dir)
    assert str(path) in str(error.value)


def damaged(copied_dir: pathlib.Path, byte: int) -> pathlib.Path:
    file = copied_dir / "digits" / "1.0.0" / "digits-train.array_record-00000-of-00001"
    data = bytearray(file.read_bytes())
    data[byte] ^= 0xFF
    file.write_bytes(data)
    return file


def read_errors(examples: Source) -> dict[int, str]:
    """Return the error message of each position that cannot be read."""
    messages = {}
    for position in range(len(examples)):
        try:
            examples[position]
        except ValueError as error:
            messages[position] = str(error)
    return messages


@pytest.mark.parametrize(("split", "first"), [("train", 0), ("train[900:1000]", 900)])
def test_error_names_a_damaged_record_and_its_file(
    split: str, first: int, copied_dir: pathlib.Path
) -> None:
    file = damaged(copied_dir, 229_376)
    # Each record is a separate chunk, so all others can still be read.
    ((position, message),) = read_errors(load_source("digits", split, data_dir=copied_dir)).items()
    assert first + position == 956
    assert f"cannot read example {position} of digits {split} (record 956 of {file})" in message
    assert "hash mismatch" in message


def test_error_names_a_truncated_file(copied_dir: pathlib.Path) -> None:
    file = damaged(copied_dir, 0)
    file.write_bytes(file.read_bytes()[:200_000])
    with pytest.raises(ValueError, match="cannot read example 3 of digits train") as error:
        load_source("digits", "train", data_dir=copied_dir)[3]
    assert str(file) in str(error.value)


def test_origins_are_right_over_several_files(digits_dir: pathlib.Path) -> None:
    records = open_tfds("digits", "train[10:]+test[:5]", str(digits_dir), "label")
    assert len(records) == 1437 - 10 + 5
    for position, expected in (
        (0, "record 10 of"),
        (1426, "record 1436 of"),
        (1429, "record 2 of"),
    ):
        assert f"({expected} " in records[position].image_origin
    assert "digits-test" in records[1429].image_origin


def test_examples_can_be_pickled(digits_dir: pathlib.Path) -> None:
    records = open_tfds("digits", "test", str(digits_dir), "label")
    again = pickle.loads(pickle.dumps(records))
    assert again[7] == records[7]


def test_error_has_instructions_for_manual_downloads(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load_source("imagenet2012", "train", data_dir=tmp_path)
    assert "ILSVRC2012_img_train.tar" in str(error.value)
    assert f"{tmp_path / 'downloads' / 'manual'} is the manual_dir" in str(error.value)
    assert "It downloads the dataset" not in str(error.value)


def test_error_for_an_unregistered_builder_says_where_to_import_it(tmp_path: pathlib.Path) -> None:
    message = r"got 'drawn_shapes'\. .*import its module in train/data/sources/datasets\.py"
    with pytest.raises(ValueError, match=message):
        open_tfds("drawn_shapes", "train", str(tmp_path), "label")


@pytest.fixture
def own_builder() -> Iterator[type[tfds.core.GeneratorBasedBuilder]]:
    """A builder as in this project, whose image is an array."""

    class OneImage(tfds.core.GeneratorBasedBuilder):
        __module__ = "train.data.sources.one_image"
        VERSION = tfds.core.Version("1.0.0")
        url_infos = None

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=(4, 4, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=2),
                "weight": tfds.features.Scalar(np.float32),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description="One image.",
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, dl_manager: object) -> dict[str, object]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, object]]]:
            yield 0, {"image": self.image(), "label": 1, "weight": 0.5}

        def image(self) -> object:
            return encode_png(np.full((4, 4), 7, np.uint8))

    yield OneImage
    tfds.core.registered._DATASET_REGISTRY.pop("one_image")


def test_a_builder_of_this_project_is_prepared(
    own_builder: type[tfds.core.GeneratorBasedBuilder], tmp_path: pathlib.Path
) -> None:
    (example,) = open_tfds("one_image", "train", str(tmp_path), "label")
    assert example.label == 1


def test_error_says_how_to_prepare_without_tensorflow(
    own_builder: type[tfds.core.GeneratorBasedBuilder],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def image(self: object) -> object:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(own_builder, "image", image)
    with pytest.raises(ImportError, match=r"imports tensorflow\. .*encode_png"):
        open_tfds("one_image", "train", str(tmp_path), "label")


def test_other_failed_imports_are_reported_as_they_are(
    own_builder: type[tfds.core.GeneratorBasedBuilder],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def image(self: object) -> object:
        from tensorflow_datasets import no_such_name

        return no_such_name

    monkeypatch.setattr(own_builder, "image", image)
    with pytest.raises(ImportError, match=r"^cannot import name 'no_such_name'"):
        open_tfds("one_image", "train", str(tmp_path), "label")


@pytest.mark.parametrize("label_key", ["lable", "weight", "image"])
def test_a_label_of_another_kind_is_refused(
    label_key: str, own_builder: type[tfds.core.GeneratorBasedBuilder], tmp_path: pathlib.Path
) -> None:
    message = (
        rf"a LabeledImage '{label_key}' in the dataset 'one_image'; it has .*label \(ClassLabel"
    )
    with pytest.raises(ValueError, match=message):
        open_tfds("one_image", "train", str(tmp_path), label_key)


def test_an_image_of_another_size_than_declared_is_refused(
    own_builder: type[tfds.core.GeneratorBasedBuilder],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_builder, "image", lambda self: encode_png(np.zeros((4, 5), np.uint8)))
    source = Source(open_tfds("one_image", "train", str(tmp_path), "label"))
    with pytest.raises(ValueError, match=r"images of 4 x 4 pixels, as .*, got 4 x 5 in example 0"):
        source[0]
    resized = Source(open_tfds("one_image", "train", str(tmp_path), "label"), image_size=(4, 4))
    assert resized[0]["image"].shape == (4, 4, 1)


def test_error_names_a_data_dir_that_cannot_be_written(
    own_builder: type[tfds.core.GeneratorBasedBuilder], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as error:
        open_tfds("one_image", "train", str(tmp_path / "file"), "label")
    (note,) = error.value.__notes__
    assert note.startswith(f"The dataset 'one_image' was being prepared in {tmp_path / 'file'}.")
    assert "--config.data_dir" in note
