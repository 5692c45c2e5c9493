"""Saves that fail or are killed half-way, in processes of their own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.train.checkpoints.checkpoint_states import assert_restores, feed, make_state
from train.checkpoints.manager import Checkpoints

RUN = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.train.checkpoints.checkpoint_states import feed, make_state
from train.checkpoints.manager import Checkpoints
"""


def run_python(script: str, **arguments: Any) -> subprocess.Popen[str]:
    """A process that runs `script` with these as sys.argv[1:], after the imports above."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN + script, *map(str, arguments.values())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


WRITE_FAILS = """
import jax.numpy as jnp
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    checkpoints.save(1, make_state(1), feed(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 2000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            checkpoints.save(2, make_state(2, width=3000), feed(2))
        except OSError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            print("said:", error)
            print("left:", sorted(path.name for path in Path(sys.argv[1]).iterdir()))
    checkpoints.save(2, make_state(2), feed(2))
"""


def test_a_write_that_fails_leaves_the_checkpoints_before_it(tmp_path: Path) -> None:
    # A limit on the size of files stands in for the full disk: the same writes fail.
    with run_python(WRITE_FAILS, directory=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    said = [line for line in out.splitlines() if line.startswith("said: ")]
    assert len(said) == 3
    for line in said:
        assert "could not save the checkpoint of step 2" in line
        assert "File too large" in line
        assert "of steps [1], are whole" in line
    assert out.splitlines()[1::2] == ["left: ['1']"] * 3
    assert_restores(tmp_path, 2)
    shutil.rmtree(tmp_path / "2")
    assert_restores(tmp_path, 1)


def test_what_a_failed_save_writes_later_is_removed_too(tmp_path: Path, monkeypatch: Any) -> None:
    def write() -> None:
        with contextlib.suppress(FileNotFoundError):  # removed between the one and the other
            (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True, exist_ok=True)

    def fail(*_: Any, **__: Any) -> None:
        for delay in (0.0, 0.1, 0.3):
            threading.Timer(delay, write).start()
        raise OSError("File too large")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1), feed(1))
        monkeypatch.setattr(checkpoints._manager, "save", fail)
        with pytest.raises(OSError, match=r"could not save the checkpoint of step 2 .* too large"):
            checkpoints.save(2, make_state(2), feed(2))
        monkeypatch.undo()
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        checkpoints.save(2, make_state(2), feed(2))
    assert_restores(tmp_path, 2)


SAVE_FOR_EVER = """
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for step in range(int(sys.argv[2]), 10_000):
        checkpoints.save(step, make_state(step), feed(step), {"eval_accuracy": 1 / step})
        print(step, flush=True)
"""


def kill_in_mid_save(process: subprocess.Popen[str], directory: Path) -> None:
    """SIGKILL at a moment at which a half-written checkpoint is certain to be there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if list(directory.glob("*tmp*/state*/ocdbt*/d")):
            process.send_signal(signal.SIGSTOP)
            if list(directory.glob("*tmp*/state*/ocdbt*/d")):
                break
            process.send_signal(signal.SIGCONT)
    process.kill()


def test_killed_while_saving(tmp_path: Path) -> None:
    for first in (1, 1000):
        with run_python(SAVE_FOR_EVER, directory=tmp_path, first=first) as process:
            assert process.stdout is not None
            done = [process.stdout.readline() for _ in range(3)]
            kill_in_mid_save(process, tmp_path)
            done += process.stdout.read().split()
        (half,) = tmp_path.glob("*tmp*")
        assert int(half.name.split(".")[0]) == int(done[-1]) + 1
        assert assert_restores(tmp_path, int(done[-1])) == []
        assert not list(tmp_path.glob("*tmp*"))
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.best_step == 1
            assert checkpoints.all_steps == [1, int(done[-1]) - 1, int(done[-1])]
