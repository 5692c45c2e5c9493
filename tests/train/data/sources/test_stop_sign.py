"""The builder of stop signs, with a small handwritten COCO."""

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.train.data.example_images import encode
from train.data.sources.load import load_source
from train.data.sources.stop_sign import stop_sign_mask

# COCO's ids are 24-bit colors. These use all three channels.
SIGN, CROWD, CAR, ROAD = 5_000_013, 65_539, 3_226_956, 255

# Prepare the stop signs in another process, without a network and without TensorFlow.
PREPARE = """
import socket, sys
def refuse(*_):
    raise AssertionError("tried to use the network")
socket.socket.connect = socket.getaddrinfo = refuse
from train.data.sources.load import load_splits
train, validation = load_splits("stop_sign", data_dir=sys.argv[1], image_size=(16, 16))
print(len(train), len(validation), "tensorflow" in sys.modules)
"""


def panoptic(ids: np.ndarray) -> bytes:
    channels = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], -1)
    return encode(channels.astype(np.uint8))


def example(number: int, segments: dict[int, str], shape: tuple[int, int]) -> dict[str, Any]:
    """Return an image whose segments are vertical stripes. Below them the id is 0."""
    ids = np.zeros(shape, np.int64)
    for stripe, segment in enumerate(segments):
        ids[: shape[0] // 2, 4 * stripe : 4 * stripe + 4] = segment
    image = np.random.default_rng(number).integers(0, 256, (*shape, 3)).astype(np.uint8)
    box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    return {
        "image": encode(image, "JPEG"),
        "image/filename": f"{number:012}.jpg",
        "image/id": number,
        "panoptic_image": panoptic(ids),
        "panoptic_image/filename": f"{number:012}.png",
        "panoptic_objects": [
            {"id": segment, "area": 1, "bbox": box, "label": label, "is_crowd": segment == CROWD}
            for segment, label in segments.items()
        ],
    }


SPLITS = {
    "train": [
        example(9, {ROAD: "road", SIGN: "stop sign", CAR: "car"}, (20, 30)),
        example(25, {CAR: "car", ROAD: "road"}, (20, 30)),
        example(30, {}, (24, 24)),
        example(34, {CROWD: "stop sign", CAR: "car", SIGN: "stop sign"}, (32, 16)),
    ],
    "validation": [example(7, {SIGN: "stop sign"}, (20, 20)), example(8, {CAR: "car"}, (8, 8))],
}


class Coco(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A small COCO without TensorFlow, with the features, name, config and version of TFDS."""

    name = "coco"
    url_infos = None  # There are no checksums.
    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="2017_panoptic", version="1.1.0"),)

    def _info(self) -> tfds.core.DatasetInfo:
        segment = {
            "id": np.int64,
            "area": np.int64,
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["car", "stop sign", "road"]),
            "is_crowd": np.bool_,
        }
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "panoptic_image": tfds.features.Image(encoding_format="png"),
            "panoptic_image/filename": tfds.features.Text(),
            "panoptic_objects": tfds.features.Sequence(segment),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Any:
        yield from enumerate(SPLITS[split])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a data directory with a prepared `coco/2017_panoptic` and the stop signs."""
    data_dir = tmp_path_factory.mktemp("coco")
    Coco(data_dir=data_dir, file_format="array_record").download_and_prepare()
    command = [sys.executable, "-W", "error", "-c", PREPARE, str(data_dir)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    # TFDS prints progress bars.
    assert result.stdout.endswith("2 1 False\n"), result.stderr
    return data_dir


def test_images_with_stop_signs_are_unchanged(data_dir: pathlib.Path) -> None:
    records = tfds.builder("stop_sign", data_dir=data_dir).as_data_source("train")
    assert [int(record["image/id"]) for record in records] == [9, 34]
    source = load_source("stop_sign", "train", data_dir=data_dir, image_size=(16, 16))
    assert source.class_names == ("background", "stop sign")
    for position, number in enumerate((9, 34)):
        (original,) = (x for x in SPLITS["train"] if x["image/id"] == number)
        assert source._encoded[position].image == original["image"]


def test_masks_are_one_at_stop_signs(data_dir: pathlib.Path) -> None:
    source = load_source("stop_sign", "train", data_dir=data_dir, image_size=(16, 16))
    for position, (shape, columns) in enumerate(
        [((20, 30), slice(4, 8)), ((32, 16), np.r_[0:4, 8:12])]
    ):
        expected = np.zeros(shape, np.uint8)
        expected[: shape[0] // 2, columns] = 1
        image, mask = source.decode(position)
        assert image.size == shape[::-1]
        np.testing.assert_array_equal(np.asarray(mask), expected)


def test_images_differ_in_size(data_dir: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"stop_sign train.* differ in size.*image_size=224"):
        load_source("stop_sign", "train", data_dir=data_dir)


def test_error_has_the_command_that_prepares_coco(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load_source("stop_sign", "train", data_dir=tmp_path)
    message = str(error.value)
    assert (
        f"files in {tmp_path / 'coco' / '2017_panoptic' / '1.1.0'}, and that directory does not"
        in message
    )
    assert 'tfds.builder("coco/2017_panoptic"' in message
    assert "It downloads 21 GB. Only this step needs TensorFlow" in message
    assert not any(tmp_path.iterdir())


def test_error_names_missing_files_of_coco(data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    coco = tmp_path / "coco" / "2017_panoptic" / "1.1.0"
    coco.mkdir(parents=True)
    for file in (data_dir / "coco" / "2017_panoptic" / "1.1.0").iterdir():
        if "validation" not in file.name:
            (coco / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"incomplete; missing: .*coco-validation"):
        load_source("stop_sign", "train", data_dir=tmp_path)


@pytest.mark.parametrize("segment", [SIGN, CROWD, ROAD, 255 * 256, 255 * 256**2])
def test_ids_are_little_endian_colors(segment: int) -> None:
    ids = np.full((3, 5), CAR)
    ids[1, 2] = segment
    mask = stop_sign_mask(panoptic(ids), [segment, 77], "an image")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(np.argwhere(mask), [[1, 2]])


def test_error_names_a_segment_without_pixels() -> None:
    with pytest.raises(ValueError, match=r"segments \[5000013\] in .* of COCO's image 9, got none"):
        stop_sign_mask(panoptic(np.full((3, 5), CAR)), [SIGN], "COCO's image 9")
