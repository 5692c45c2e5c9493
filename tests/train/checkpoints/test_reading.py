"""Checkpoints read beside a run that goes on writing them."""

import numpy as np
import pytest

from train.checkpoints.manager import Checkpoints
from train.checkpoints.reading import read_checkpoint


@pytest.fixture
def directory(tmp_path):
    """Checkpoints of steps 2, 5 and 10, of which 5 is the best and 10 was not evaluated."""
    with Checkpoints(tmp_path, keep_last=9) as checkpoints:
        for step, metrics in ((2, {"score": 0.5}), (5, {"score": 0.9}), (10, {})):
            checkpoints.save(step, {"w": np.full(3, step)}, {"next_index": step}, metrics)
    (tmp_path / "11.orbax-checkpoint-tmp").mkdir()  # half-written
    return tmp_path


def read(directory, which, metric="score"):
    return read_checkpoint(directory, which, {"w": np.zeros(3, int)}, best_metric=metric)


@pytest.mark.parametrize(("which", "step"), [("best", 5), ("last", 10), ("2", 2)])
def test_reads_what_is_named_and_changes_nothing(directory, which, step):
    before = sorted(directory.rglob("*"))
    restored = read(directory, which)
    assert restored.step == step
    np.testing.assert_array_equal(restored.state["w"], np.full(3, step))
    assert sorted(directory.rglob("*")) == before


def test_what_is_not_there_is_told(directory, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 in .* steps 2, 5, 10"):
        read(directory, "7")
    with pytest.raises(FileNotFoundError, match="was evaluated yet; use --step=last"):
        read(directory, "best", metric="other")
    with pytest.raises(FileNotFoundError, match=r"expected checkpoints in .*, found none"):
        read(tmp_path / "nothing", "last")
    record = directory / "5" / "record" / "metadata"
    record.write_text(record.read_text()[:-9])
    with pytest.raises(ValueError, match=r"of step 5 in .* is damaged.* of steps 2, 5, 10"):
        read(directory, "5")


def test_a_relative_path_will_do(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    restored = read(directory.relative_to(directory.parent), "best")
    np.testing.assert_array_equal(restored.state["w"], np.full(3, 5))
