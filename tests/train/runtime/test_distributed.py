"""Test runs with two real processes, which are killed, stopped and resumed."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from train.checkpoints.record import read_record
from train.reporting.run_report import read_metric_lines
from train.runtime.distributed import initialize
from train.saved_evaluation import evaluate_checkpoint

# Like `python -m train`, but records the examples of each step.
RECORD_EXAMPLES = """
import json, os
import numpy as np
from train.__main__ import define_flags, main, run_command
from train.data.feed_timeout import TimeoutFeed

original = TimeoutFeed.__next__
file = open(os.environ["EXAMPLES"], "a", buffering=1)

def record(self):
    step = self.get_state()["next_index"]
    batch = original(self)
    if "is_example" not in batch:
        file.write(json.dumps([step, np.asarray(batch["index"]).ravel().tolist()]) + "\\n")
    return batch

TimeoutFeed.__next__ = record
define_flags()
run_command(main)
"""
# Six steps, which are 1.2 epochs. The run is evaluated and saved after steps 3 and 6.
FLAGS = (
    "--config.fusion=add",
    "--config.batch_size=288",
    "--config.eval_batch_size=100",
    "--config.epochs=1.2",
    "--config.eval_every_epochs=0.6",
    "--config.log_every_steps=1",
    "--config.keep_checkpoints=9",
    "--config.learning_rate=0.02",
)
STEPS = 6
HANG_SECONDS = 600  # only bounds a hang: a busy machine may take minutes
TIMEOUT = 60  # seconds without a heartbeat after which JAX ends a run
# The processes add 288 examples in another order, and the steps amplify the rounding errors.
TOLERANCE = 1e-3


@pytest.fixture
def start(command, tmp_path):
    """Return a function that starts a run with some number of processes."""

    def start(workdir, count):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        address = (f"--coordinator_address=127.0.0.1:{port}", f"--num_processes={count}")
        return [
            command(
                f"--workdir={workdir}",
                *FLAGS,
                *((*address, f"--process_id={i}") if count > 1 else ()),
                "--process_timeout=120",
                program=("-c", RECORD_EXAMPLES),
                environment={"EXAMPLES": f"{workdir}.examples{i}"},
            )
            for i in range(count)
        ]

    return start


def finish(processes):
    outputs = [process.communicate(timeout=HANG_SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def wait_until_trained(workdir, step, processes):
    deadline = time.monotonic() + HANG_SECONDS
    while not any(x["step"] >= step for x in read_metric_lines(workdir)):
        assert all(process.poll() is None for process in processes), processes[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def curve(workdir):
    lines = [x for x in read_metric_lines(workdir) if x["kind"] == "train"]
    assert [x["step"] for x in lines] == list(range(1, STEPS + 1))
    return np.array([x["loss"] for x in lines])


def examples(*prefixes):
    """Return the global batch of each step, from the last start of the run that took the step."""
    steps = {}
    for prefix in prefixes:
        files = [Path(f"{prefix}.examples{i}") for i in range(2)]
        read = [
            dict(json.loads(line) for line in file.read_text().splitlines())
            if file.exists()
            else {}
            for file in files
        ]
        for step in read[0]:
            steps[step] = read[0][step] + read[1].get(step, [])
    return [steps[step] for step in range(STEPS)]


@pytest.mark.slow
def test_two_processes_train_like_one_and_resume_as_one_or_two(start, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    finish(start(alone, 1))
    losses = curve(alone)

    # If a process is killed, the other one ends with a message.
    processes = start(both, 2)
    wait_until_trained(both, 4, processes)
    processes[0].kill()
    _, err = processes[1].communicate(timeout=HANG_SECONDS)
    assert processes[1].returncode not in (0, None)
    assert "another process" in err or "Terminating process because the JAX" in err
    processes[0].communicate()

    # The run resumes with one process or with two.
    shutil.copytree(both, tmp_path / "one")
    for i in range(2):
        shutil.copy(tmp_path / f"both.examples{i}", tmp_path / f"before.examples{i}")
    (out, err), (other_out, _) = finish(start(both, 2))
    assert "test accuracy" in out
    assert "accuracy" not in other_out
    assert "error" not in err
    finish(start(tmp_path / "one", 1))

    for workdir in (both, tmp_path / "one"):
        np.testing.assert_allclose(curve(workdir), losses, rtol=TOLERANCE)
    for seen in (examples(both), examples(tmp_path / "before", tmp_path / "one")):
        assert [len(batch) for batch in seen] == [288] * STEPS
        assert seen == examples(alone)
        epoch, more = np.split(np.concatenate(seen), [1437])
        np.testing.assert_array_equal(np.sort(epoch), np.arange(1437))
        assert len(np.unique(more)) == len(more)

    # One process evaluates the last state like two processes.
    record = read_record(both / "checkpoints" / str(STEPS))
    assert len(record["feed_states"]) == 2
    found = evaluate_checkpoint(both, "last").metrics
    assert found["accuracy"] == record["metrics"]["eval_accuracy"]
    assert found["loss"] == pytest.approx(record["metrics"]["eval_loss"], rel=1e-5)


# Calls `should_stop` until it returns True.
WAIT = """
import sys, time
from rich.console import Console
from train.runtime.distributed import initialize
from train.runtime.preemption import StopSignals

initialize("127.0.0.1:" + sys.argv[1], 2, int(sys.argv[2]), timeout_seconds=int(sys.argv[3]))
with StopSignals(Console()) as signals:
    print("waiting", flush=True)
    calls = 1
    while not signals.should_stop():
        calls += 1
        time.sleep(0.01)
    print(calls, signals.exit_status)
"""


@pytest.fixture
def waiting():
    """Start two processes that wait for a signal."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WAIT, str(port), str(i), str(TIMEOUT)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        for i in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "waiting\n", process.communicate()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("receiver", "number", "status"), [(1, signal.SIGTERM, 143), (0, signal.SIGINT, 130)]
)
def test_all_processes_stop_at_the_same_call(waiting, receiver, number, status):
    waiting[receiver].send_signal(number)
    outputs = [process.communicate(timeout=HANG_SECONDS)[0].split()[-2:] for process in waiting]
    assert [process.returncode for process in waiting] == [0, 0]
    assert outputs[0][0] == outputs[1][0]
    assert outputs[receiver][1] == str(status)


@pytest.mark.slow
def test_process_that_hangs_ends_the_others(waiting):
    waiting[1].send_signal(signal.SIGSTOP)
    _, err = waiting[0].communicate(timeout=HANG_SECONDS)
    assert waiting[0].returncode == -signal.SIGABRT
    assert "another task died" in err
    assert err.split("stopped sending heartbeats):")[1].split()[0] == "1"  # the process that hangs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_processes": 2}, "--coordinator_address and --process_id are missing"),
        ({"coordinator_address": "a:1", "process_id": 0}, "--num_processes is missing"),
        ({"coordinator_address": "a", "num_processes": 2, "process_id": 0}, "as in 10.0.0.1:1234"),
        ({"coordinator_address": "a:1", "num_processes": 2, "process_id": 2}, r"in 0 \.\. 1 for"),
    ],
)
def test_incomplete_and_invalid_flags_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialize(**arguments)


def test_single_process_does_not_start_jax_distributed(monkeypatch):
    monkeypatch.setattr("jax.distributed.initialize", lambda **_: pytest.fail("was called"))
    assert not initialize()
    assert not initialize(num_processes=1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert not initialize()


def test_jax_detects_the_processes_of_a_cluster(monkeypatch):
    calls = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    initialize(timeout_seconds=50)
    assert calls[0]["coordinator_address"] is calls[0]["num_processes"] is None
    assert calls[0]["heartbeat_timeout_seconds"] == 50


def test_missing_coordinator_is_an_error():
    code = (
        "from train.runtime.distributed import initialize; "
        "initialize('127.0.0.1:9', 2, 1, timeout_seconds=1)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert process.returncode == 1
    assert process.stderr.startswith(
        "error: could not connect to the other processes at 127.0.0.1:9 "
    )
    assert len(process.stderr.strip().splitlines()) == 1
