"""Whole runs in this process that resume from a checkpoint."""

import shutil

import chex
import jax
import numpy as np
import pytest

from tests.train.run_checkpoints import damage, restore
from train import start
from train.checkpoints.manager import Checkpoints
from train.reporting.run_report import read_metric_lines
from train.setup import make_run


@pytest.mark.slow
def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(config, console, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start.train(config, whole, console)
    shutil.copytree(whole, cut)
    (cut / "summary.json").unlink()
    damage(cut / "checkpoints" / "14")
    start.train(config, cut, console)
    text = console.export_text()
    assert "checkpoint of step 14" in text
    assert "is damaged" in text
    assert "Resuming from step 11 of 14" in text
    one, other = restore(whole, config), restore(cut, config)
    assert one.step == other.step == 14
    chex.assert_trees_all_equal(one.state, other.state)
    # Every step is in the metrics once.
    steps = [(x["kind"], x["step"]) for x in read_metric_lines(cut)]
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
    summary = start.train(config, whole, console)
    shutil.copytree(whole, cut)
    (cut / "summary.json").unlink()
    damage(cut / "checkpoints" / "14")
    start.train(config, cut, console)
    assert "Resuming from step 11 of 14" in console.export_text()
    one, other = restore(whole, config), restore(cut, config)
    assert one.step == other.step == 14
    chex.assert_trees_all_equal(one.state, other.state)
    assert one.state.loss_scale.fin_steps == one.state.update_count
    trained = [x for x in read_metric_lines(whole) if x["kind"] == "train"]
    assert {x["loss_scale"] for x in trained} == {2.0**16}
    assert {x["skipped"] for x in trained} == {0}
    # The evaluated weights are the saved ones.
    assert start.train(config, whole, console) == summary

    # Training does not read running statistics, so recalibration does not change it.
    config.recalibration_batches = 0
    start.train(config, tmp_path / "without", console)
    without = restore(tmp_path / "without", config)
    chex.assert_trees_all_equal(without.state.params, one.state.params)
    chex.assert_trees_all_equal(without.state.ema["params"], one.state.ema["params"])
    differs = jax.tree.map(np.array_equal, without.state.ema, one.state.ema)
    assert not any(jax.tree.leaves(differs["batch_stats"]))


@pytest.mark.slow
def test_checkpoints_between_evaluations_are_never_the_best(config, console, tmp_path, monkeypatch):
    config.checkpoint_every_minutes = 1e-9  # at each log of metrics
    config.keep_checkpoints = 9
    start.train(config, tmp_path / "run", console)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.all_steps == [4, 6, 10, 11, 14]
        assert checkpoints.best_step in (6, 11, 14)
    # The run resumes from such a checkpoint too, and deletes the initial state before.
    for step in (11, 14):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    accuracy = [x["accuracy"] for x in read_metric_lines(tmp_path / "run") if x["kind"] == "eval"][
        -1
    ]
    runs = []
    monkeypatch.setattr(
        start, "make_run", lambda *a, **k: runs.append(make_run(*a, **k)) or runs[-1]
    )
    assert start.train(config, tmp_path / "run", console)["eval_accuracy"] == accuracy
    assert "Resuming from step 10 of 14" in console.export_text()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(runs[0].state))


def test_a_finished_run_can_be_trained_for_longer(config, console, tmp_path, small_network):
    first = start.train(config, tmp_path, console)
    config.epochs, config.learning_rate, config.schedule = 7.0, 0.01, "constant"
    with pytest.raises(ValueError, match="add --extend"):
        start.train(config, tmp_path, console)
    summary = start.train(config, tmp_path, console, extend=True)
    assert (first["step"], summary["step"]) == (14, 20)
    assert "Extending the run from step 14 to 20." in console.export_text()
    lines = [line for line in read_metric_lines(tmp_path) if line["kind"] == "train"]
    assert [line["step"] for line in lines][-1] == 20
    assert lines[-1]["learning_rate"] == pytest.approx(0.01)
