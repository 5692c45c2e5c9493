"""Runs that fail: values that are not finite, and a feed that hangs. Checkpoints remain."""

import threading
from typing import TypeVar

import chex
import numpy as np
import pytest

from tests.train.run_checkpoints import restore
from train import start
from train.checkpoints.manager import Checkpoints
from train.data.feed_timeout import FeedError, TimeoutFeed
from train.reporting.run_report import read_metric_lines
from train.reporting.step_metrics import NonFiniteError

T = TypeVar("T")


@pytest.mark.slow
def test_a_run_that_is_not_finite_ends_and_keeps_its_last_checkpoint(config, console, tmp_path):
    config.learning_rate = 1e18
    config.warmup_epochs = 4.0
    config.eval_every_epochs = 0.3  # a checkpoint at each step
    config.max_skipped_steps = 4
    with pytest.raises(NonFiniteError, match=r"got a .* at step (\d+), the last of 4 in a row"):
        start.train(config, tmp_path / "run", console)
    restored = restore(tmp_path / "run", config)
    assert restored.state.skipped == restored.state.skipped_in_row == 3
    chex.assert_tree_all_finite(restored.state)
    # Skipped steps have no loss in the metrics.
    assert [
        ("loss" in x, x["skipped"])
        for x in read_metric_lines(tmp_path / "run")
        if x["kind"] == "train"
    ][-3:] == [(False, 1), (False, 2), (False, 3)]


@pytest.mark.slow
def test_an_update_that_overflows_is_not_saved(config, console, tmp_path, small_network):
    """The loss and the gradient of that step are finite, but the new parameters are not."""
    config.update(learning_rate=3e38, momentum=1.0, weight_decay=100.0, warmup_epochs=0.0)
    config.eval_every_epochs = 0.3
    with pytest.raises(NonFiniteError, match=r"at step 1. There is no checkpoint yet"):
        start.train(config, tmp_path / "run", console)
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    assert all(np.isfinite(x["loss"]) for x in read_metric_lines(tmp_path / "run"))


class HangsAfterThreeBatches:
    """A feed whose fourth batch does not come until `release` is set."""

    def __init__(self, feed, release):
        self.feed, self.release = feed, release
        self.get_state = feed.get_state

    def __next__(self):
        return self.release.wait() if hangs(self) else next(self.feed)


def hangs(feed):
    return feed.get_state()["next_index"] == 3


class ShortTimeoutOnceHung(TimeoutFeed[T]):
    """Waits for a batch as long as the config says, but only 0.1 s for one that cannot come.

    So the test does not depend on the speed of the machine.
    """

    def __init__(self, feed, timeout_seconds):
        super().__init__(feed, timeout_seconds)
        self.impatient = TimeoutFeed(feed, 0.1)

    def __next__(self):
        return next(self.impatient) if hangs(self) else super().__next__()


def test_a_feed_that_hangs_ends_the_run_and_keeps_its_checkpoints(
    config, console, tmp_path, monkeypatch, small_network
):
    config.epochs, config.eval_every_epochs = 2.0, 0.3  # a checkpoint at each step
    release = threading.Event()
    make_feed = start.make_train_feed
    monkeypatch.setattr(
        start, "make_train_feed", lambda *a: HangsAfterThreeBatches(make_feed(*a), release)
    )
    monkeypatch.setattr(start, "TimeoutFeed", ShortTimeoutOnceHung)
    with pytest.raises(FeedError, match=r"expected the next batch within 0\.1 s"):
        start.train(config, tmp_path / "run", console)
    release.set()
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 3
