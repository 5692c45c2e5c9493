"""Test the metrics, plots and console lines of a run."""

import io
import json
import resource
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from aff_jax.images import ImageTask
from tests.train.reporting.event_files import read_events
from train.reporting import plots, run_report
from train.reporting.run_report import RunReport, read_metric_lines

TRAIN = {"loss": 2.0, "accuracy": 0.25, "gradient_norm": 1.0, "learning_rate": 0.1}


def make_report(workdir, start_step=0):
    console = Console(record=True, width=200, force_terminal=False)
    return RunReport(workdir, start_step=start_step, total_steps=10, console=console)


def test_lines_have_kind_step_and_seconds(tmp_path):
    with make_report(tmp_path) as report:
        report.log_train(2, {**TRAIN, "examples_per_second": 100.0})
        report.log_eval(2, 0.5, {"loss": 1.5, "accuracy": 0.5})
    train, evaluation = read_metric_lines(tmp_path)
    assert (train["kind"], train["step"], train["loss"]) == ("train", 2, 2.0)
    assert (evaluation["kind"], evaluation["step"], evaluation["accuracy"]) == ("eval", 2, 0.5)
    assert 0 <= train["seconds"] <= evaluation["seconds"]
    assert "test accuracy 50.00%" in report.console.export_text()


def test_resumed_run_deletes_later_lines(tmp_path):
    with make_report(tmp_path) as report:
        for step in (2, 4, 6):
            report.log_train(step, TRAIN)
    before = read_metric_lines(tmp_path)
    with make_report(tmp_path, start_step=4) as report:
        assert report.seconds >= before[1]["seconds"]
        report.log_train(6, {**TRAIN, "loss": 1.0})
    lines = read_metric_lines(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[:2] == before[:2]
    assert lines[2]["loss"] == 1.0


def test_truncated_line_is_ignored(tmp_path):
    with make_report(tmp_path) as report:
        report.log_train(2, TRAIN)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "train", "st')
    assert [line["step"] for line in read_metric_lines(tmp_path)] == [2]
    with make_report(tmp_path, start_step=2):
        pass
    assert path.read_text().endswith("}\n")


def test_summary_has_the_median_speed_and_the_wall_time(tmp_path):
    with make_report(tmp_path) as report:
        for step, speed in ((2, 10.0), (4, 30.0), (6, 20.0)):
            report.log_train(step, {**TRAIN, "examples_per_second": speed})
        summary = report.finish({"eval_accuracy": 0.5})
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["examples_per_second"] == 20.0
    assert summary["wall_seconds"] == read_metric_lines(tmp_path)[-1]["seconds"]


def test_a_plot_that_cannot_be_drawn_is_reported(tmp_path, monkeypatch):
    """The other plots are drawn, an older plot remains, and nothing is raised."""
    (tmp_path / "confusion.png").write_bytes(b"older")
    monkeypatch.setattr(plots, "draw_curves", lambda lines, path, name: path.write_bytes(b"curves"))

    def fail(*arguments):
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(plots, "draw_confusion", fail)
    monkeypatch.setattr(plots, "draw_classified", fail)
    examples = np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, int), np.zeros(1, int)
    with make_report(tmp_path) as report:
        task = ImageTask("classification", ("a", "b"), (2, 2), 1, (0.5,), (0.5,))
        report.draw(np.eye(2, dtype=int), task, examples)
    out = report.console.export_text()
    for name in ("confusion.png", "predictions.png"):
        assert f"Could not draw {tmp_path / name}: RuntimeError: no font at all. All numbers" in out
    assert (tmp_path / "curves.png").read_bytes() == b"curves"
    assert (tmp_path / "confusion.png").read_bytes() == b"older"
    assert {path.name for path in tmp_path.glob("*.p*")} == {"curves.png", "confusion.png"}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_draws_a_confusion_matrix_of_any_size(tmp_path, classes):
    confusion = np.diag(np.arange(classes))  # class 0 has no example
    path = tmp_path / "confusion.png"
    plots.draw_confusion(confusion, [f"class {i}" for i in range(classes)], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_draws_curves_without_metrics(tmp_path):
    plots.draw_curves([], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_log_file_gets_one_line_per_interval(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(run_report, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    with make_report(tmp_path) as report:
        report.log_train(2, {**TRAIN, "examples_per_second": 1234.0})
        clock.now = run_report.CONSOLE_INTERVAL_SECONDS - 1
        report.log_train(3, TRAIN)
        clock.now = run_report.CONSOLE_INTERVAL_SECONDS
        report.log_train(4, TRAIN)
    first, second = report.console.export_text().splitlines()
    assert first == "step      2 of 10  accuracy 25.00%, loss 2.0000  1,234 images/s"
    assert second.startswith("step      4 of 10")
    assert second.endswith(" 0:01:30 left")  # 6 steps of 15 s


def test_scalars_start_at_the_first_step(tmp_path):
    with make_report(tmp_path, start_step=3) as report:
        report.log_train(4, {**TRAIN, "loss": 0.5})
    _, start, *scalars = read_events(tmp_path / "tensorboard")
    assert start.step == 4
    values = {x.summary.value[0].tag: x.summary.value[0].simple_value for x in scalars}
    assert values["train/loss"] == 0.5
    assert {x.step for x in scalars} == {4}


@pytest.mark.parametrize("file", ["metrics.jsonl", "tensorboard"])
def test_full_disk_is_reported(tmp_path, file, monkeypatch):
    """A limit on the file size fails the same writes as a full disk."""
    report = make_report(tmp_path)
    if file == "tensorboard":
        report._metrics.close()
        monkeypatch.setattr(report, "_metrics", io.StringIO())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(OSError) as error, report:
            report.log_train(1, TRAIN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"could not write {tmp_path / file}: File too large;" in str(error.value)
    assert "bytes are free." in str(error.value)
