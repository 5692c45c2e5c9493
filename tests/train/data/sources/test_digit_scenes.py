"""The builder of digit scenes: contents, origin of the digits, and pinned pixels."""

import pathlib
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from train.data.sources import digit_scenes
from train.data.sources.digits import split_positions
from train.data.sources.load import load_source

# Prepare the scenes in another process, without a network and without TensorFlow.
PREPARE = """
import socket, sys
def refuse(*_):
    raise AssertionError("tried to use the network")
socket.socket.connect = socket.getaddrinfo = refuse
from train.data.sources.load import load_source
scenes = load_source("digit_scenes", "train", data_dir=sys.argv[1], label_key="mask")
print(len(scenes), "tensorflow" in sys.modules)
"""


def training_digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    positions = split_positions(digits.target)["train"]
    return digits.images[positions].astype(np.int64), digits.target[positions]


@pytest.fixture(scope="module")
def prepared(digits_dir: pathlib.Path) -> pathlib.Path:
    """The data directory that all tests share, with the digit scenes."""
    load_source("digit_scenes", "train", data_dir=digits_dir)
    return digits_dir


@pytest.mark.slow
def test_preparing_needs_neither_network_nor_tensorflow(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PREPARE, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (result.stdout, result.stderr) == ("1000 False\n", "")


@pytest.mark.parametrize(
    ("split", "index", "image", "mask"),
    [
        ("train", 0, 499559608, 3901352823),
        ("train", 999, 200938713, 448336704),
        ("test", 0, 2676204272, 2215237001),
        ("test", 199, 584032750, 718434372),
    ],
)
def test_pixels_are_pinned(
    prepared: pathlib.Path, split: str, index: int, image: int, mask: int
) -> None:
    # If these change, results are not comparable with earlier ones.
    records = tfds.builder("digit_scenes", data_dir=prepared).as_data_source(split)
    assert len(records) == {"train": 1000, "test": 200}[split]
    assert records[index]["index"] == index
    assert zlib.crc32(records[index]["image"].tobytes()) == image
    assert zlib.crc32(records[index]["mask"].tobytes()) == mask


def test_classes_are_balanced(prepared: pathlib.Path) -> None:
    records = tfds.builder("digit_scenes", data_dir=prepared).as_data_source("train")
    masks = np.stack([records[index]["mask"] for index in range(200)])
    shares = np.bincount(masks.ravel(), minlength=11) / masks.size
    assert len(shares) == 11
    assert 0.8 < shares[0] < 0.95
    assert np.all(shares[1:] > 0.005)


def test_scenes_have_digits_of_4_to_32_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[list[int]] = []
    resize = digit_scenes.resize_ink

    def recording(ink: np.ndarray, size: int) -> np.ndarray:
        sizes[-1].append(size)
        return resize(ink, size)

    monkeypatch.setattr(digit_scenes, "resize_ink", recording)
    ink, labels = training_digits()
    for index in range(50):
        sizes.append([])
        digit_scenes.draw_scene(ink, labels, (0, index))
    assert min(map(min, sizes)) == 4
    assert max(map(max, sizes)) == 32
    assert all(max(scene) >= 17 and min(scene) <= 5 for scene in sizes)
    assert np.mean([len(scene) for scene in sizes]) > 12  # Few of the 15 do not fit.


@pytest.mark.parametrize("size", range(4, 33))
def test_resize_ink_matches_its_formula(size: int) -> None:
    """Compute the overlap of windows and pixels as a sum over a grid that is fine enough."""
    ink, _ = training_digits()
    grid = 4 * 8 * size  # number of points along the scan
    window = grid // min(8, size)
    # Ink along the grid, with half a window of zeros at each end.
    edge = window // 2
    fine = np.pad(np.kron(np.eye(8), np.ones(grid // 8)), ((0, 0), (edge, edge)))
    centers = (2 * np.arange(size) + 1) * grid // (2 * size)
    weights = np.stack([fine[:, c : c + window].mean(1) for c in centers])
    exact = weights @ ink[5] @ weights.T * 255 / 16
    result = digit_scenes.resize_ink(ink[5], size)
    assert result.shape == (size, size)
    np.testing.assert_allclose(result, exact, atol=0.5 + 1e-9)


def test_resize_ink_to_the_original_size_changes_nothing() -> None:
    ink = np.arange(64).reshape(8, 8) % 17
    np.testing.assert_array_equal(digit_scenes.resize_ink(ink, 8), (510 * ink + 16) // 32)


def test_test_scenes_use_only_test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, np.ndarray]] = []

    def recording(ink: np.ndarray, labels: np.ndarray, seed: tuple[int, int]) -> None:
        given.append((seed[0], ink))
        raise StopIteration

    monkeypatch.setattr(digit_scenes, "draw_scene", recording)
    builder = digit_scenes.DigitScenes.__new__(digit_scenes.DigitScenes)
    generators = builder._split_generators(None)  # type: ignore[arg-type]
    for split in ("train", "test"):
        with pytest.raises(RuntimeError):
            next(generators[split])
    digits = load_digits()
    for (number, ink), split in zip(given, ("train", "test"), strict=True):
        assert number == ("train", "test").index(split)
        expected = digits.images[split_positions(digits.target)[split]]
        np.testing.assert_array_equal(ink, expected)
