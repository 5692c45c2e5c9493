"""The settings of Orbax, its log while it fails, and the files that failed saves leave."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging as absl_logging

from train.checkpoints import orbax_manager
from train.checkpoints.orbax_manager import open_manager, quiet_orbax, remove_unfinished


def test_keeps_the_newest_checkpoints_and_the_best(tmp_path: Path) -> None:
    with open_manager(tmp_path, keep_last=2, best_step=lambda: 1) as manager:
        for step in (1, 2, 3, 4):
            manager.save(step, args=ocp.args.StandardSave({"x": np.full(2, step)}))
            assert (tmp_path / str(step)).is_dir()  # the save is synchronous
        assert list(manager.all_steps()) == [1, 3, 4]


def test_only_unfinished_checkpoints_are_removed(tmp_path: Path) -> None:
    for name in ("1", "2.damaged", "3.orbax-checkpoint-tmp"):
        (tmp_path / name / "state").mkdir(parents=True)
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2.damaged"]


def test_gives_up_if_a_thread_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        (tmp_path / "1.orbax-checkpoint-tmp").mkdir()

    fake = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(orbax_manager, "time", fake)
    remove_unfinished(tmp_path, quiet_seconds=0.5)
    assert clock.now == pytest.approx(5, abs=0.1)
    assert not list(tmp_path.iterdir())


def test_errors_of_threads_are_hidden_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    hook = lambda unraisable: seen.append(str(unraisable.exc_value))  # noqa: E731
    monkeypatch.setattr(sys, "unraisablehook", hook)
    logger = absl_logging.get_absl_logger()
    level = logger.level
    with quiet_orbax():
        assert not logger.isEnabledFor(logging.ERROR)
        for message in ("Event loop is closed", "another error"):
            sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(message)))  # type: ignore
    assert seen == ["another error"]
    assert (logger.level, sys.unraisablehook) == (level, hook)

    with pytest.raises(OSError, match="File too large"), quiet_orbax():
        raise OSError("File too large")
    assert logger.level == level
    assert sys.unraisablehook is not hook  # TensorStore may still write
