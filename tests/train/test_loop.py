"""Whole runs in this process: their files, resuming, and how they end."""

import json
import shutil
import subprocess
import sys
import threading
from typing import TypeVar

import chex
import jax
import numpy as np
import pytest

from train import loop
from train.checkpoints.manager import Checkpoints
from train.data.feed_timeout import FeedError, TimeoutFeed
from train.reporting.run_report import read_metrics
from train.reporting.step_metrics import NonFiniteError
from train.reporting.workdir import claim_workdir
from train.setup import prepare

T = TypeVar("T")


def restore(workdir, config):
    """Return the last checkpoint of a run."""
    run = prepare(config)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.restore(run.state)


def damage(checkpoint):
    """Cut all files of a checkpoint in half."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lines(workdir):
    """Return the lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_metrics_plots_and_checkpoints(config, console, tmp_path):
    summary = loop.train(config, tmp_path / "run", console)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary) == {
        "eval_accuracy",
        "eval_loss",
        "step",
        "epochs",
        "examples_per_second",
        "wall_seconds",
        "parameters",
        "devices",
    }
    assert summary["devices"] == "8 x cpu"
    assert "Running on 8 x cpu." in console.export_text(clear=False)
    assert summary["step"] == 14
    assert summary["epochs"] == pytest.approx(14 * 512 / 1437)
    assert summary["eval_accuracy"] > 0.3  # ten classes, five epochs
    assert summary["wall_seconds"] > 0
    assert summary["examples_per_second"] > 0
    for name in ("curves.png", "confusion.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run" / "predictions.png").exists()  # for segmentation only
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))

    seen = lines(tmp_path / "run")
    assert [x["step"] for x in seen if x["kind"] == "eval"] == [6, 11, 14]
    assert [x["step"] for x in seen if x["kind"] == "train"] == [4, 6, 10, 11, 14]
    trained = [x for x in seen if x["kind"] == "train"]
    assert trained[-1]["loss"] < trained[0]["loss"]
    assert summary["eval_accuracy"] * 360 == pytest.approx(round(summary["eval_accuracy"] * 360))

    # A complete run is evaluated again, with the same metrics.
    again = loop.train(config, tmp_path / "run", console)
    assert "complete at step 14" in console.export_text()
    assert again == summary
    assert lines(tmp_path / "run") == seen


@pytest.mark.slow
def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(config, console, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    loop.train(config, whole, console)
    shutil.copytree(whole, cut)
    (cut / "summary.json").unlink()
    damage(cut / "checkpoints" / "14")
    loop.train(config, cut, console)
    text = console.export_text()
    assert "checkpoint of step 14" in text
    assert "is damaged" in text
    assert "Resuming from step 11 of 14" in text
    one, other = restore(whole, config), restore(cut, config)
    assert one.step == other.step == 14
    chex.assert_trees_all_equal(one.state, other.state)
    # Every step is in the metrics once.
    steps = [(x["kind"], x["step"]) for x in lines(cut)]
    assert len(steps) == len(set(steps))


@pytest.mark.slow
def test_resuming_is_bit_exact_with_all_options_on(config, console, tmp_path, small_network):
    config.update(
        parallel="shard_map",
        dtype="float16",
        accumulation=2,
        ema_decay=0.9,
        recalibration_batches=2,
        autoaugment="cifar10",
        color_jitter=0.4,
        random_erasing=0.3,
        mixup_alpha=1.0,
        cutmix_alpha=1.0,
        mix_off_epochs=1.0,
        label_smoothing=0.1,
        crop_padding=1,
        flip=True,
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary = loop.train(config, whole, console)
    shutil.copytree(whole, cut)
    (cut / "summary.json").unlink()
    damage(cut / "checkpoints" / "14")
    loop.train(config, cut, console)
    assert "Resuming from step 11 of 14" in console.export_text()
    one, other = restore(whole, config), restore(cut, config)
    assert one.step == other.step == 14
    chex.assert_trees_all_equal(one.state, other.state)
    assert one.state.loss_scale.fin_steps == one.state.updates
    trained = [x for x in lines(whole) if x["kind"] == "train"]
    assert {x["loss_scale"] for x in trained} == {2.0**16}
    assert {x["skipped"] for x in trained} == {0}
    # The evaluated weights are the saved ones.
    assert loop.train(config, whole, console) == summary

    # Training does not read running statistics, so recalibration does not change it.
    config.recalibration_batches = 0
    loop.train(config, tmp_path / "without", console)
    without = restore(tmp_path / "without", config)
    chex.assert_trees_all_equal(without.state.params, one.state.params)
    chex.assert_trees_all_equal(without.state.ema["params"], one.state.ema["params"])
    differs = jax.tree.map(np.array_equal, without.state.ema, one.state.ema)
    assert not any(jax.tree.leaves(differs["batch_stats"]))


@pytest.mark.slow
def test_a_run_that_is_not_finite_ends_and_keeps_its_last_checkpoint(config, console, tmp_path):
    config.learning_rate = 1e18
    config.warmup_epochs = 4.0
    config.eval_every_epochs = 0.3  # a checkpoint at each step
    config.max_skipped_steps = 4
    with pytest.raises(NonFiniteError, match=r"got a .* at step (\d+), the last of 4 in a row"):
        loop.train(config, tmp_path / "run", console)
    restored = restore(tmp_path / "run", config)
    assert restored.state.skipped == restored.state.skipped_in_row == 3
    chex.assert_tree_all_finite(restored.state)
    # Skipped steps have no loss in the metrics.
    assert [("loss" in x, x["skipped"]) for x in lines(tmp_path / "run") if x["kind"] == "train"][
        -3:
    ] == [(False, 1), (False, 2), (False, 3)]


@pytest.mark.slow
def test_an_update_that_overflows_is_not_saved(config, console, tmp_path, small_network):
    """The loss and the gradient of that step are finite, but the new parameters are not."""
    config.update(learning_rate=3e38, momentum=1.0, weight_decay=100.0, warmup_epochs=0.0)
    config.eval_every_epochs = 0.3
    with pytest.raises(NonFiniteError, match=r"at step 1. There is no checkpoint yet"):
        loop.train(config, tmp_path / "run", console)
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    assert all(np.isfinite(x["loss"]) for x in lines(tmp_path / "run"))


def test_a_workdir_in_use_is_refused(config, console, tmp_path, small_network):
    config.epochs = 1.5
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    )
    workdir = tmp_path / "run"
    claim_workdir(workdir, config)
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(workdir / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ValueError, match="is in use: another process is training in it"):
            loop.train(config, workdir, console)
    finally:
        other.kill()
        other.communicate()


def test_a_workdir_of_another_run_is_refused(config, console, tmp_path, small_network):
    config.epochs, config.warmup_epochs = 0.1, 0.0
    loop.train(config, tmp_path / "run", console)
    before = {path: path.stat().st_mtime for path in (tmp_path / "run").rglob("*")}
    config.fusion = "aff"
    with pytest.raises(ValueError, match=r"fusion: \"add\" in the workdir, \"aff\" now"):
        loop.train(config, tmp_path / "run", console)
    assert {path: path.stat().st_mtime for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 100, "batch_size that the number of devices divides, got 100 for 8"),
        ("model", "cifar_resnet9", "unknown model 'cifar_resnet9'. Did you mean"),
        ("fusion", "iaf", "unknown fusion 'iaf'. Did you mean"),
        ("reference", "mxnett", "unknown reference 'mxnett'. Did you mean 'mxnet'"),
        ("schedule", "cosin", "unknown schedule 'cosin'. Did you mean 'cosine'"),
        ("optimizer", "adagrd", "unknown optimizer 'adagrd'. Did you mean 'adagrad'"),
        ("dataset", "digit", "unknown dataset 'digit'. Did you mean 'digits'"),
        ("accumulation", 3, "devices times accumulation divide, got 512 for 8 times 3"),
        ("parallel", "shardmap", "unknown parallel 'shardmap'. Did you mean 'shard_map'"),
        ("dtype", "float61", "unknown dtype 'float61'. Did you mean 'float16'"),
        ("label_key", "lable", "label key of 'digits': 'lable'. Did you mean 'label'"),
    ],
)
def test_an_impossible_value_is_refused_before_files_are_written(
    config, console, tmp_path, field, value, message
):
    config[field] = value
    with pytest.raises(ValueError) as error:
        loop.train(config, tmp_path / "run", console)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_of_segmentation_writes_its_own_metrics(scenes, console, tmp_path):
    summary = loop.train(scenes, tmp_path / "run", console)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [name for name in summary if name.startswith("eval_")] == [
        "eval_mean_iou",
        "eval_pixel_accuracy",
        "eval_loss",
    ]
    assert 1 / 13 < summary["eval_mean_iou"] < 1
    seen = lines(tmp_path / "run")
    assert [(x["kind"], x["step"]) for x in seen if x["kind"] == "eval"] == [
        ("eval", 5),
        ("eval", 10),
    ]
    trained = [x for x in seen if x["kind"] == "train"]
    assert trained[-1]["loss"] < trained[0]["loss"]
    assert 0 < trained[-1]["pixel_accuracy"] < 1
    text = console.export_text()
    assert f"test mean IoU {summary['eval_mean_iou']:.2%}, test pixel accuracy" in text
    with Checkpoints(tmp_path / "run" / "checkpoints", best_metric="eval_mean_iou") as checkpoints:
        best = max((x["mean_iou"], x["step"]) for x in seen if x["kind"] == "eval")
        assert checkpoints.best_step == best[1]
    for name in ("curves.png", "confusion.png", "predictions.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")

    # A complete run draws its plots again.
    (tmp_path / "run" / "predictions.png").unlink()
    assert loop.train(scenes, tmp_path / "run", console) == summary
    assert (tmp_path / "run" / "predictions.png").exists()


def test_a_network_for_another_task_is_refused(scenes, console, tmp_path, monkeypatch):
    monkeypatch.undo()
    scenes.fusion = "add"
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 11\), got \(1, 11\) from 'cifar_resnet8'"):
        loop.train(scenes, tmp_path / "run", console)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_checkpoints_between_evaluations_are_never_the_best(config, console, tmp_path, monkeypatch):
    config.checkpoint_every_minutes = 1e-9  # at each log of metrics
    config.keep_checkpoints = 9
    loop.train(config, tmp_path / "run", console)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.all_steps == [4, 6, 10, 11, 14]
        assert checkpoints.best_step in (6, 11, 14)
    # The run resumes from such a checkpoint too, and deletes the initial state before.
    for step in (11, 14):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    accuracy = [x["accuracy"] for x in lines(tmp_path / "run") if x["kind"] == "eval"][-1]
    runs = []
    monkeypatch.setattr(loop, "prepare", lambda *a, **k: runs.append(prepare(*a, **k)) or runs[-1])
    assert loop.train(config, tmp_path / "run", console)["eval_accuracy"] == accuracy
    assert "Resuming from step 10 of 14" in console.export_text()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(runs[0].state))


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
    """Waits for a batch as long as the config says, but only 0.1 s for one that can't come.

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
    make_feed = loop.make_train_feed
    monkeypatch.setattr(
        loop, "make_train_feed", lambda *a: HangsAfterThreeBatches(make_feed(*a), release)
    )
    monkeypatch.setattr(loop, "TimeoutFeed", ShortTimeoutOnceHung)
    with pytest.raises(FeedError, match=r"expected the next batch within 0\.1 s"):
        loop.train(config, tmp_path / "run", console)
    release.set()
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 3


def test_a_finished_run_can_be_trained_for_longer(config, console, tmp_path, small_network):
    first = loop.train(config, tmp_path, console)
    config.epochs, config.learning_rate, config.schedule = 7.0, 0.01, "constant"
    with pytest.raises(ValueError, match="add --extend"):
        loop.train(config, tmp_path, console)
    summary = loop.train(config, tmp_path, console, extend=True)
    assert (first["step"], summary["step"]) == (14, 20)
    assert "Extending the run from step 14 to 20." in console.export_text()
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert [line["step"] for line in lines][-1] == 20
    assert lines[-1]["learning_rate"] == pytest.approx(0.01)
