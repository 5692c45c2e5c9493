"""Test signals to real runs: nothing is lost, and the resumed run ends like one without signals."""

import json
import shutil
import signal
import socket

import pytest
from rich.console import Console

from train.checkpoints.record import read_record
from train.reporting.run_report import read_metric_lines
from train.runtime.preemption import StopSignals

HANG_SECONDS = 600  # only bounds a hang: a busy machine may take minutes

# Like `python -m train`, but waits before one training step or evaluation batch.
PAUSE = """
import os, time
from pathlib import Path
from train.__main__ import define_flags, main, run_command
from train.data.feed_timeout import TimeoutFeed

original = TimeoutFeed.__next__

def pause(self):
    index = self.get_state()["next_index"]
    batch = original(self)
    kind = "eval" if "is_example" in batch else "train"
    if os.environ["PAUSE_AT"] == f"{kind} {index}":
        print("paused", flush=True)
        while not Path(os.environ["CONTINUE"]).exists():
            time.sleep(0.01)
    return batch

TimeoutFeed.__next__ = pause
define_flags()
run_command(main)
"""


def finish(process):
    out, err = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, out, err


def read_until(process, text):
    """Read lines of the output up to the one with `text`."""
    lines = []
    while not lines or text not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], (lines, process.communicate())
    return "".join(lines)


@pytest.fixture
def paused(command, short_run, tmp_path):
    """Return a function that starts the run in `tmp_path / "run"` and waits until it pauses."""

    def start(pause_at):
        (tmp_path / "continue").unlink(missing_ok=True)
        process = command(
            f"--workdir={tmp_path / 'run'}",
            *short_run,
            program=("-c", PAUSE),
            environment={"PAUSE_AT": pause_at, "CONTINUE": str(tmp_path / "continue")},
        )
        return process, read_until(process, "paused")

    return start


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_each_signal_stops_with_its_status(name):
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_DFL)  # it may be ignored, as under nohup
    try:
        console = Console(record=True, force_terminal=False)
        with StopSignals(console) as signals:
            assert not signals.should_stop()
            signal.raise_signal(number)
            assert signals.should_stop()
            assert signals.received
            assert signals.exit_status == 128 + number
        assert ("Interrupted" if name == "SIGINT" else f"Received {name}") in console.export_text()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_sighup_remains_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(Console(record=True)) as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.should_stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_stopped_and_resumed_run_ends_like_one_without_signals(
    paused, command, short_run, undisturbed, tmp_path
):
    workdir = tmp_path / "run"
    checkpoints = workdir / "checkpoints"

    # The second Ctrl-C ends the process immediately.
    process, _ = paused("train 0")
    process.send_signal(signal.SIGINT)
    read_until(process, "Interrupted; stopping. Press Ctrl-C again to exit immediately.")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (130, "")
    assert "Exiting immediately" in out
    assert not list(checkpoints.glob("[0-9]*"))
    shutil.rmtree(workdir)

    # After SIGTERM the run takes the step, saves it and stops.
    process, _ = paused("train 0")
    process.send_signal(signal.SIGTERM)
    read_until(process, "Received SIGTERM; stopping.")
    (tmp_path / "continue").touch()
    code, out, err = finish(process)
    assert (code, err) == (143, "")
    assert "Stopped after step 1" in out

    # Ctrl-C between two evaluations.
    process, out = paused("train 14")
    assert "from step 1 of 43" in out
    process.send_signal(signal.SIGINT)
    read_until(process, "Interrupted")
    (tmp_path / "continue").touch()
    code, out, err = finish(process)
    assert (code, err) == (130, "")
    assert "Stopped after step 15" in out
    assert max(int(path.name) for path in checkpoints.iterdir()) == 15

    # During an evaluation: the run stops without its metrics, and evaluates after the next start.
    process, _ = paused("eval 1")
    process.send_signal(signal.SIGTERM)
    read_until(process, "Received SIGTERM")
    (tmp_path / "continue").touch()
    code, out, err = finish(process)
    assert (code, err) == (143, "")
    assert "Stopped after step 17" in out
    assert not any((x["kind"], x["step"]) == ("eval", 17) for x in read_metric_lines(workdir))
    assert read_record(checkpoints / "17")["metrics"] == {}

    code, out, err = finish(command(f"--workdir={workdir}", *short_run))
    assert (code, err) == (0, "")
    assert "from step 17 of 43" in out
    # A record has the CRC-32 of each array, the metrics and the feed state.
    for step in (9, 17, 26, 34, 43):
        assert read_record(checkpoints / str(step)) == read_record(
            undisturbed / "checkpoints" / str(step)
        ), step
    numbers = [
        [{k: v for k, v in x.items() if k not in ("seconds", "examples_per_second")} for x in lines]
        for lines in (read_metric_lines(workdir), read_metric_lines(undisturbed))
    ]
    assert numbers[0] == numbers[1]
    summaries = [json.loads((x / "summary.json").read_text()) for x in (workdir, undisturbed)]
    assert summaries[0]["eval_loss"] == summaries[1]["eval_loss"]


def test_runs_of_these_tests_have_no_network(command, tmp_path):
    """The run of the fixture `undisturbed` would have failed if it had needed a connection."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    status, _, err = finish(command(program=("-c", code)))
    assert status == 1
    assert err.startswith("tried to reach 192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection({server.getsockname()!r}, timeout=60)"
        assert finish(command(program=("-c", code))) == (0, "", "")
