"""Signals to real runs: what was trained is kept, and the run ends as one that was let alone."""

import json
import shutil
import signal
import socket
import time

import pytest

from train.checkpoints.record import read_record
from train.reporting.run_report import read_metrics


def wait_for(process, condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def told(workdir, kind, step):
    return lambda: any((x["kind"], x["step"]) == (kind, step) for x in read_metrics(workdir))


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_again_and_again_ends_as_one_that_was_not(
    command, short_run, undisturbed, tmp_path
):
    workdir = tmp_path / "run"
    checkpoints = workdir / "checkpoints"

    def start(*flags):
        return command(f"--workdir={workdir}", *short_run, *flags)

    def compiling():
        # What comes after the files are open is the compilation of the step, of some seconds.
        return (workdir / "metrics.jsonl").exists()

    # Two Ctrl-C during the compilation: the second does not wait for it.
    process = start("--compilation_cache=")
    wait_for(process, compiling)
    assert process.stdout.readline().endswith(" x cpu.\n")
    time.sleep(0.5)  # from there to the first step it takes some milliseconds
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "\n"
    assert process.stdout.readline() == "Interrupted. Ctrl-C again ends it at once.\n"
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (130, "")
    assert "Ended at once" in out
    assert not list(checkpoints.glob("[0-9]*"))
    shutil.rmtree(workdir)

    # A machine that is taken away during the compilation: the step is taken, and saved.
    process = start("--compilation_cache=")
    wait_for(process, compiling)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, err) == (143, "")
    assert "Told to stop (SIGTERM)." in out
    assert "Stopped after step 1 and saved a checkpoint." in out

    # Ctrl-C between two evaluations.
    process = start()
    wait_for(process, told(workdir, "train", 14))
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (130, "")
    assert "Resuming from step 1 of 43." in out
    steps = sorted(int(path.name) for path in checkpoints.iterdir())
    assert 14 <= steps[-1] < 17
    assert f"Stopped after step {steps[-1]} and saved a checkpoint." in out

    # In an evaluation: it is given up, and done again after the next start.
    process = start()
    wait_for(process, told(workdir, "train", 26))
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, err) == (143, "")
    assert "Stopped after step 26 and saved a checkpoint." in out
    assert not told(workdir, "eval", 26)()
    assert read_record(checkpoints / "26")["metrics"] == {}

    code, out, err = finish(start())
    assert (code, err) == (0, "")
    assert "Resuming from step 26 of 43." in out
    # A record holds the CRC-32 of every array, the metrics, and where the feed stands.
    for step in (9, 17, 26, 34, 43):
        assert read_record(checkpoints / str(step)) == read_record(
            undisturbed / "checkpoints" / str(step)
        ), step
    numbers = [
        [{k: v for k, v in x.items() if k not in ("seconds", "examples_per_second")} for x in lines]
        for lines in (read_metrics(workdir), read_metrics(undisturbed))
    ]
    assert numbers[0] == numbers[1]
    summaries = [json.loads((x / "summary.json").read_text()) for x in (workdir, undisturbed)]
    assert summaries[0]["eval_loss"] == summaries[1]["eval_loss"]


def test_a_run_of_these_tests_could_not_have_reached_a_network(command, tmp_path):
    """What the fixture `undisturbed` did without an error it did without a connection."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    process = command(program=("-c", code))
    status, _, err = finish(process)
    assert status == 1
    assert err.startswith("tried to reach 192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection({server.getsockname()!r}, timeout=9)"
        assert finish(command(program=("-c", code))) == (0, "", "")
