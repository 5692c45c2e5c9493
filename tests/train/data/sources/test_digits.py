"""The builder of the handwritten digits: splits, pixels, and interrupted preparations."""

import concurrent.futures
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from train.data.sources import digits
from train.data.sources.load import load_source

# Prepare the digits in another process, without a network and without TensorFlow.
PREPARE = """
import socket, sys
def refuse(*_):
    raise AssertionError("tried to use the network")
socket.socket.connect = socket.getaddrinfo = refuse
from train.data.sources.load import load_source
print(len(load_source("digits", "train", data_dir=sys.argv[1])), "tensorflow" in sys.modules)
"""

# The same, killed after the training split was written and 100 test examples were generated.
PREPARE_AND_DIE = """
import itertools, os, signal, sys
from train.data.sources import digits
from train.data.sources.load import load_source
generate = digits.Digits._generate_examples
def dying(self, images, labels, positions):
    examples = generate(self, images, labels, positions)
    if len(positions) == 1437:
        yield from examples
    else:
        yield from itertools.islice(examples, 100)
        os.kill(os.getpid(), signal.SIGKILL)
digits.Digits._generate_examples = dying
load_source("digits", "train", data_dir=sys.argv[1])
"""


def run(program: str, data_dir: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def splits(digits_dir: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Read both splits with TFDS."""
    sources = tfds.builder("digits", data_dir=digits_dir).as_data_source()
    return {
        split: {key: np.stack([record[key] for record in records]) for key in records[0]}
        for split, records in sources.items()
    }


def test_split_follows_the_documented_rule(splits: dict[str, dict[str, np.ndarray]]) -> None:
    labels = load_digits().target.tolist()
    order = sorted(range(1797), key=lambda position: (labels[position], position))
    assert splits["test"]["index"].tolist() == order[::5]
    assert splits["train"]["index"].tolist() == [
        position for place, position in enumerate(order) if place % 5
    ]


def test_split_is_pinned(splits: dict[str, dict[str, np.ndarray]]) -> None:
    # If these change, accuracies are not comparable with earlier ones.
    train, test = (splits[split]["index"] for split in ("train", "test"))
    assert (len(train), len(test)) == (1437, 360)
    assert test[:8].tolist() == [0, 48, 79, 150, 185, 252, 292, 334]
    assert sorted([*train, *test]) == list(range(1797))


def test_split_is_stratified(splits: dict[str, dict[str, np.ndarray]]) -> None:
    in_all = np.bincount(load_digits().target)
    in_test = np.bincount(splits["test"]["label"])
    assert np.all(np.abs(in_test - in_all / 5) < 1)


@pytest.mark.parametrize("split", ["train", "test"])
def test_examples_match_scikit_learn(splits: dict[str, dict[str, np.ndarray]], split: str) -> None:
    bundled, examples = load_digits(), splits[split]
    # Round half up with integers: floor((2 * 255 * ink + 16) / 32).
    ink = bundled.images[examples["index"]].astype(np.int64)
    assert examples["image"].dtype == np.uint8
    np.testing.assert_array_equal(examples["image"][..., 0], (510 * ink + 16) // 32)
    np.testing.assert_array_equal(examples["label"], bundled.target[examples["index"]])


@pytest.mark.slow
def test_processes_can_prepare_at_the_same_time(tmp_path: pathlib.Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(run, [PREPARE] * 2, [tmp_path] * 2):
            # TFDS prints neither progress bars nor messages about downloads.
            assert (result.stdout, result.stderr) == ("1437 False\n", "")
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("overtaken_in", ["download_and_prepare", "_split_generators"])
def test_slower_process_reads_the_files_of_the_faster_one(
    overtaken_in: str,
    digits_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = getattr(digits.Digits, overtaken_in)

    def overtaken(*arguments: Any, **named: Any) -> Any:
        shutil.copytree(digits_dir / "digits", tmp_path / "digits", dirs_exist_ok=True)
        return original(*arguments, **named)

    monkeypatch.setattr(digits.Digits, overtaken_in, overtaken)
    assert len(load_source("digits", "test", data_dir=tmp_path)) == 360
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


@pytest.mark.slow
def test_interrupted_preparation_is_never_read(tmp_path: pathlib.Path) -> None:
    assert run(PREPARE_AND_DIE, tmp_path).returncode == -signal.SIGKILL
    (leftover,) = (tmp_path / "digits").iterdir()
    assert leftover.name.startswith("incomplete.")
    assert any(leftover.iterdir()), "the process was killed before it wrote a file"

    assert len(load_source("digits", "train", data_dir=tmp_path)) == 1437
    assert len(load_source("digits", "test", data_dir=tmp_path)) == 360


def test_other_errors_of_preparing_are_raised(tmp_path: pathlib.Path) -> None:
    (tmp_path / "digits").write_text("a file in the way")
    with pytest.raises(NotADirectoryError):
        load_source("digits", "train", data_dir=tmp_path)
