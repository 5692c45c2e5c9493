"""The test split, and the pictures of runs that end early."""

import dataclasses
import json
import signal

import numpy as np
import pytest

from train import loop, start
from train.checkpoints.manager import Checkpoints
from train.data.pipeline import open_split
from train.eval_loop import evaluate, predict_some
from train.reporting.run_report import read_metric_lines
from train.runtime.preemption import Stopped
from train.setup import make_run

PICTURES = ("confusion.png", "curves.png", "predictions.png")


@pytest.fixture
def with_test_split(monkeypatch):
    """Give every run a test split of 100 digits, and keep the last run."""
    runs = []

    def make_run_with_test_split(config, **options):
        run = make_run(config, **options)
        test = open_split(config, "test[:100]")
        runs.append(dataclasses.replace(run, test_source=test, eval_name="validation"))
        return runs[-1]

    monkeypatch.setattr(start, "make_run", make_run_with_test_split)
    return runs


def test_the_best_checkpoint_is_evaluated_on_the_test_split(
    config, console, small_network, with_test_split, monkeypatch, tmp_path
):
    """The evaluations are made worse with each step, so that the first checkpoint is the best."""
    scores = iter([0.9, 0.8, 0.7, 0.6])
    calls = []

    def worse(run, state, after_batch, source=None):
        calls.append(source)
        metrics, confusion = evaluate(run, state, after_batch, source)
        return (metrics if source else {**metrics, "accuracy": next(scores)}), confusion

    monkeypatch.setattr(loop, "evaluate", worse)
    summary = start.train(config, tmp_path / "run", console)
    run = with_test_split[-1]
    assert calls == [None, None, None, run.test_source]
    assert (summary["eval_accuracy"], summary["test_step"], summary["step"]) == (0.7, 6, 14)
    with Checkpoints(tmp_path / "run" / "checkpoints", best_metric="eval_accuracy") as checkpoints:
        best = checkpoints.restore_best(make_run(config).state)
    metrics, _ = evaluate(run, best.state, source=run.test_source)
    assert {name: summary[f"test_{name}"] for name in metrics} == metrics
    lines = [line for line in read_metric_lines(tmp_path / "run") if line["kind"] == "test"]
    assert [(line["step"], line["accuracy"]) for line in lines] == [(6, metrics["accuracy"])]
    out = console.export_text()
    assert "\ntest          100 images of 10 classes\n" in out
    assert "validation accuracy 70.00%" in out
    assert "test split, best checkpoint (step 6): test accuracy" in out


def test_a_complete_run_is_tested_again_without_new_lines(
    config, console, small_network, with_test_split, tmp_path
):
    summary = start.train(config, tmp_path / "run", console)
    lines = read_metric_lines(tmp_path / "run")
    assert {line["kind"] for line in lines} == {"train", "eval", "classes", "test"}
    assert start.train(config, tmp_path / "run", console) == summary
    assert read_metric_lines(tmp_path / "run") == lines


def stop_at(monkeypatch, step):
    """Send SIGTERM to this process after a training step."""
    original = loop.TrainingLoop._train_step

    def train_step(self):
        original(self)
        if self.step == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop.TrainingLoop, "_train_step", train_step)


def test_an_interrupted_run_has_pictures_and_no_summary(
    config, console, small_network, monkeypatch, tmp_path
):
    stop_at(monkeypatch, 8)
    with pytest.raises(Stopped) as error:
        start.train(config, tmp_path / "run", console)
    assert error.value.code == 143
    assert sorted(path.name for path in (tmp_path / "run").glob("*.png")) == [*PICTURES]
    assert not (tmp_path / "run" / "summary.json").exists()
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 8


def test_an_error_in_a_picture_loses_neither_the_checkpoint_nor_the_status(
    config, console, small_network, monkeypatch, tmp_path
):
    def fail(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr("train.reporting.plots.draw_curves", fail)
    stop_at(monkeypatch, 8)
    with pytest.raises(Stopped) as error:
        start.train(config, tmp_path / "run", console)
    assert error.value.code == 143
    assert "curves.png: RuntimeError: no font" in console.export_text()
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 8


def test_a_run_that_was_not_evaluated_has_no_pictures(
    config, console, small_network, monkeypatch, tmp_path
):
    stop_at(monkeypatch, 2)
    with pytest.raises(Stopped):
        start.train(config, tmp_path / "run", console)
    assert not list((tmp_path / "run").glob("*.png"))


def test_a_failed_prediction_does_not_end_the_run(
    config, console, small_network, monkeypatch, tmp_path
):
    def fail(run, state):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(loop, "predict_some", fail)
    start.train(config, tmp_path / "run", console)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["step"] == 14
    assert not (tmp_path / "run" / "predictions.png").exists()
    assert "predictions.png: RuntimeError: out of memory" in console.export_text()


def test_the_drawn_examples_are_spread_over_the_split(config, small_network):
    run = make_run(config)
    images, labels, predictions = predict_some(run, run.state)
    positions = [0, 72, 144, 215, 287, 359]
    np.testing.assert_array_equal(images, [run.eval_source[i]["image"] for i in positions])
    np.testing.assert_array_equal(labels, [run.eval_source[i]["label"] for i in positions])
    np.testing.assert_array_equal(predictions, run.predict(run.state, images))
