"""Test reading checkpoints of a run that may still write more of them."""

import chex
import numpy as np
import pytest

from train.checkpoints.manager import Checkpoints
from train.checkpoints.reading import rank_by_metric, read_checkpoint, read_eval_variables


@pytest.fixture
def directory(tmp_path):
    """Return a directory with checkpoints of steps 2, 5 and 10: 5 is best, 10 was not evaluated."""
    with Checkpoints(tmp_path, keep_last=9) as checkpoints:
        for step, metrics in ((2, {"score": 0.5}), (5, {"score": 0.9}), (10, {})):
            checkpoints.save(step, {"w": np.full(3, step)}, {"next_index": step}, metrics)
    (tmp_path / "11.orbax-checkpoint-tmp").mkdir()  # unfinished
    return tmp_path


def read(directory, which, metric="score"):
    return read_checkpoint(directory, which, {"w": np.zeros(3, int)}, best_metric=metric)


@pytest.mark.parametrize(("which", "step"), [("best", 5), ("last", 10), ("2", 2)])
def test_reads_the_named_checkpoint_and_changes_nothing(directory, which, step):
    before = sorted(directory.rglob("*"))
    restored = read(directory, which)
    assert restored.step == step
    np.testing.assert_array_equal(restored.state["w"], np.full(3, step))
    assert sorted(directory.rglob("*")) == before


def test_missing_and_damaged_checkpoints_are_errors(directory, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 in .* of steps 2, 5, 10"):
        read(directory, "7")
    with pytest.raises(
        FileNotFoundError, match=r"expected an evaluated checkpoint .* Use --step=last"
    ):
        read(directory, "best", metric="other")
    with pytest.raises(FileNotFoundError, match=r"expected checkpoints in .*, found none"):
        read(tmp_path / "nothing", "last")
    record = directory / "5" / "record" / "metadata"
    record.write_text(record.read_text()[:-9])
    with pytest.raises(ValueError, match=r"of step 5 in .* is damaged.* of steps 2, 5, 10"):
        read(directory, "5")


def test_accepts_a_relative_path(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    restored = read(directory.relative_to(directory.parent), "best")
    np.testing.assert_array_equal(restored.state["w"], np.full(3, 5))


def test_ranks_the_newest_of_equals_first_and_ignores_nan():
    metrics = {1: {"x": 0.5}, 2: {"x": 0.9}, 3: {}, 4: {"x": float("nan")}, 5: {"x": 0.9}}
    assert rank_by_metric(metrics, "x") == [5, 2, 1]


@pytest.mark.parametrize("averaged", [False, True])
def test_reads_the_evaluated_variables_without_an_optimizer(tmp_path, averaged):
    def variables(value):
        return {"params": {"w": np.full(3, value)}, "batch_stats": {"mean": np.full(2, value)}}

    state = {**variables(1.0), "opt_state": {"momentum": np.zeros(3)}}
    if averaged:
        state["ema"] = variables(2.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, state, {}, {"score": 0.5})
    restored = read_eval_variables(tmp_path, "best", variables(0.0), best_metric="score")
    assert (restored.step, restored.metrics) == (4, {"score": 0.5})
    chex.assert_trees_all_equal(restored.state, variables(2.0 if averaged else 1.0))
    other = {"params": {"w": np.zeros(4)}, "batch_stats": {"mean": np.zeros(2)}}
    with pytest.raises(ValueError, match=r"(?s)has other arrays .*params/w"):
        read_eval_variables(tmp_path, "last", other, best_metric="score")
