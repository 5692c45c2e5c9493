"""Whole runs in this process: the files that they write."""

import json

import pytest

from train import start
from train.checkpoints.manager import Checkpoints
from train.reporting.run_report import read_metric_lines


def test_a_run_writes_metrics_plots_and_checkpoints(config, console, tmp_path):
    summary = start.train(config, tmp_path / "run", console)
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
        "evaluated_split",
        "classes",
    }
    assert summary["devices"] == "8 x cpu"
    assert "Running on 8 x cpu." in console.export_text(clear=False)
    assert summary["step"] == 14
    assert summary["epochs"] == pytest.approx(14 * 512 / 1437)
    assert summary["eval_accuracy"] > 0.3  # ten classes, five epochs
    assert summary["wall_seconds"] > 0
    assert summary["examples_per_second"] > 0
    for name in ("curves.png", "confusion.png", "predictions.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    labels = [scores["labels"] for scores in summary["classes"].values()]
    assert (len(labels), sum(labels)) == (10, 360)
    out = console.export_text(clear=False)
    assert out.startswith("training    1,437 images of 10 classes\n")
    assert "\ntest          360 images of 10 classes\n" in out
    assert "\ncheckpoint  the test split chooses the best one\n" in out
    assert "\nsteps       2.807 per epoch, 14 in 5 epochs\n" in out
    assert out.count("steps take about 0:") == 1
    assert "Scores of each class on the test split after step 14:\nclass" in out
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))

    seen = read_metric_lines(tmp_path / "run")
    assert [x["step"] for x in seen if x["kind"] == "eval"] == [6, 11, 14]
    assert [x["step"] for x in seen if x["kind"] == "train"] == [4, 6, 10, 11, 14]
    trained = [x for x in seen if x["kind"] == "train"]
    assert trained[-1]["loss"] < trained[0]["loss"]
    assert summary["eval_accuracy"] * 360 == pytest.approx(round(summary["eval_accuracy"] * 360))

    # A complete run is evaluated again, with the same metrics.
    again = start.train(config, tmp_path / "run", console)
    assert "complete at step 14" in console.export_text()
    assert again == summary
    assert read_metric_lines(tmp_path / "run") == seen


@pytest.mark.slow
def test_a_run_of_segmentation_writes_its_own_metrics(scenes, console, tmp_path):
    summary = start.train(scenes, tmp_path / "run", console)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [name for name in summary if name.startswith("eval_")] == [
        "eval_mean_iou",
        "eval_pixel_accuracy",
        "eval_loss",
    ]
    assert 1 / 13 < summary["eval_mean_iou"] < 1
    seen = read_metric_lines(tmp_path / "run")
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
    assert start.train(scenes, tmp_path / "run", console) == summary
    assert (tmp_path / "run" / "predictions.png").exists()
