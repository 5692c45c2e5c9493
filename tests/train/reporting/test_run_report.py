"""What leaves a run: lines of metrics that survive kills, and pictures."""

import io
import json
import resource
import struct
import time

import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2

from train.reporting import plots
from train.reporting.run_report import RunReport, read_metrics

TRAIN = {"loss": 2.0, "accuracy": 0.25, "gradient_norm": 1.0, "learning_rate": 0.1}


def report(workdir, start_step=0):
    console = Console(record=True, width=200, force_terminal=False)
    return RunReport(workdir, start_step=start_step, total_steps=10, console=console)


def test_lines_tell_kind_step_and_seconds(tmp_path):
    with report(tmp_path) as told:
        told.train(2, {**TRAIN, "examples_per_second": 100.0})
        told.evaluation(2, 0.5, {"loss": 1.5, "accuracy": 0.5})
    train, evaluation = read_metrics(tmp_path)
    assert (train["kind"], train["step"], train["loss"]) == ("train", 2, 2.0)
    assert (evaluation["kind"], evaluation["step"], evaluation["accuracy"]) == ("eval", 2, 0.5)
    assert 0 <= train["seconds"] <= evaluation["seconds"] < 60
    assert "test accuracy 50.00%" in told.console.export_text()


def test_a_run_that_goes_on_drops_the_lines_beyond_its_checkpoint(tmp_path):
    with report(tmp_path) as told:
        for step in (2, 4, 6):
            told.train(step, TRAIN)
    before = read_metrics(tmp_path)
    with report(tmp_path, start_step=4) as told:
        assert told.seconds >= before[1]["seconds"]
        told.train(6, {**TRAIN, "loss": 1.0})
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[:2] == before[:2]
    assert lines[2]["loss"] == 1.0


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    with report(tmp_path) as told:
        told.train(2, TRAIN)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "train", "st')
    assert [line["step"] for line in read_metrics(tmp_path)] == [2]
    with report(tmp_path, start_step=2):
        pass
    assert path.read_text().endswith("}\n")


def test_the_summary_holds_the_median_speed_and_the_seconds_of_the_run(tmp_path):
    with report(tmp_path) as told:
        for step, speed in ((2, 10.0), (4, 30.0), (6, 20.0)):
            told.train(step, {**TRAIN, "examples_per_second": speed})
        summary = told.finish({"eval_accuracy": 0.5}, np.eye(3, dtype=int), ["a", "b", "c"])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["examples_per_second"] == 20.0
    assert summary["wall_seconds"] == read_metrics(tmp_path)[-1]["seconds"]


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_confusion_matrix_of_any_number_of_classes_can_be_drawn(tmp_path, classes):
    confusion = np.diag(np.arange(classes))  # class 0 has no example
    path = tmp_path / "confusion.png"
    plots.draw_confusion(confusion, [f"class {i}" for i in range(classes)], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_curves_of_a_run_without_any_line_can_be_drawn(tmp_path):
    plots.draw_curves([], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_a_log_file_shows_that_the_run_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr("train.reporting.run_report.LINE_SECONDS", 0.05)
    with report(tmp_path) as told:
        told.train(2, {**TRAIN, "examples_per_second": 1234.0})
        told.train(3, TRAIN)  # too early
        time.sleep(0.06)
        told.train(4, TRAIN)
    first, second = told.console.export_text().splitlines()
    assert first == "step      2 of 10  accuracy 25.00%, loss 2.0000  1,234 images/s"
    assert second.startswith("step      4 of 10")
    assert second.endswith(" 0:00:00 left")


def test_tensorboard_can_read_the_scalars(tmp_path):
    with report(tmp_path, start_step=3) as told:
        told.train(4, {**TRAIN, "loss": 0.5})
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = []
    data = path.read_bytes()
    while data:  # length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    version, start, *scalars = events
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, event_pb2.SessionLog.START)
    values = {x.summary.value[0].tag: x.summary.value[0].simple_value for x in scalars}
    assert values["train/loss"] == 0.5
    assert {x.step for x in scalars} == {4}


@pytest.mark.parametrize("file", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_is_told(tmp_path, file, monkeypatch):
    """A limit on the size of files stands in for it: the same writes fail."""
    told = report(tmp_path)
    if file == "tensorboard":
        told._metrics.close()
        monkeypatch.setattr(told, "_metrics", io.StringIO())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(OSError) as error, told:
            told.train(1, TRAIN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"could not write {tmp_path / file}: File too large;" in str(error.value)
    assert "bytes are free there" in str(error.value)
