"""Test saves that fail or are killed, in real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.train.checkpoints.checkpoint_states import assert_restores, feed, make_state
from train.checkpoints import orbax_manager
from train.checkpoints.manager import Checkpoints

HANG_SECONDS = 600  # only bounds a hang: a busy machine may take minutes

IMPORTS = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.train.checkpoints.checkpoint_states import feed, make_state
from train.checkpoints.manager import Checkpoints
"""


def run_python(script: str, **arguments: Any) -> subprocess.Popen[str]:
    """Start a process that runs `script` with the arguments as sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTS + script, *map(str, arguments.values())],
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
            print("error:", error)
            print("files:", sorted(path.name for path in Path(sys.argv[1]).iterdir()))
    checkpoints.save(2, make_state(2), feed(2))
"""


@pytest.mark.slow
def test_failed_write_keeps_earlier_checkpoints(tmp_path: Path) -> None:
    # A limit on the file size fails the same writes as a full disk.
    with run_python(WRITE_FAILS, directory=tmp_path) as process:
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, err
    errors = [line for line in out.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for line in errors:
        assert "could not save the checkpoint of step 2" in line
        assert "File too large" in line
        assert "of steps [1], are complete" in line
    assert out.splitlines()[1::2] == ["files: ['1']"] * 3
    assert_restores(tmp_path, 2)
    shutil.rmtree(tmp_path / "2")
    assert_restores(tmp_path, 1)


def test_failed_save_removes_files_that_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """Clock that advances while the process sleeps, and then writes files at these times."""

        now = 0.0
        pending = (0.1, 0.3, 0.7)

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds
            if any(when <= self.now for when in self.pending):
                self.pending = tuple(when for when in self.pending if when > self.now)
                write()

    def write() -> None:
        (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)

    def fail(*_: Any, **__: Any) -> None:
        write()
        raise OSError("File too large")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1), feed(1))
        clock = Clock()
        monkeypatch.setattr(orbax_manager, "time", clock)
        monkeypatch.setattr(checkpoints._manager, "save", fail)
        with pytest.raises(OSError, match=r"could not save the checkpoint of step 2 .* too large"):
            checkpoints.save(2, make_state(2), feed(2))
        monkeypatch.undo()
        assert clock.pending == ()
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        checkpoints.save(2, make_state(2), feed(2))
    assert_restores(tmp_path, 2)


SAVE_FOREVER = """
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for step in range(int(sys.argv[2]), 10_000):
        checkpoints.save(step, make_state(step), feed(step), {"eval_accuracy": 1 / step})
        print(step, flush=True)
"""


def kill_during_save(process: subprocess.Popen[str], directory: Path) -> None:
    """Send SIGKILL while an unfinished checkpoint exists."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        if list(directory.glob("*tmp*/state*/ocdbt*/d")):
            process.send_signal(signal.SIGSTOP)
            if list(directory.glob("*tmp*/state*/ocdbt*/d")):
                break
            process.send_signal(signal.SIGCONT)
    process.kill()


@pytest.mark.slow
def test_kill_while_saving(tmp_path: Path) -> None:
    for first in (1, 1000):
        with run_python(SAVE_FOREVER, directory=tmp_path, first=first) as process:
            assert process.stdout is not None
            done = [process.stdout.readline() for _ in range(3)]
            kill_during_save(process, tmp_path)
            done += process.stdout.read().split()
        (unfinished,) = tmp_path.glob("*tmp*")
        assert int(unfinished.name.split(".")[0]) == int(done[-1]) + 1
        assert assert_restores(tmp_path, int(done[-1])) == []
        assert not list(tmp_path.glob("*tmp*"))
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.best_step == 1
            assert checkpoints.all_steps == [1, int(done[-1]) - 1, int(done[-1])]
