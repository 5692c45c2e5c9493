"""Configure Orbax, hide the stack traces of its threads, and delete files of failed saves."""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from absl import logging as absl_logging
from orbax.checkpoint import checkpoint_managers

__all__ = ["open_manager", "quiet_orbax", "remove_unfinished"]


def open_manager(
    directory: Path, keep_last: int, best_step: Callable[[], int | None]
) -> ocp.CheckpointManager:
    """Open Orbax's manager of the checkpoints that are in a directory now.

    Args:
        directory: Directory of the checkpoints.
        keep_last: Number of the newest checkpoints to keep.
        best_step: Returns the step of the best checkpoint, which is kept too.

    Returns:
        The manager. Its saves are synchronous.
    """
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(keep_last), _Best(best_step)]
        ),
        enable_async_checkpointing=False,
        lightweight_initialize=True,  # otherwise the constructor fails on damaged metadata
        num_deletion_threads=1,  # several threads poll a queue, 0.1 s for each deletion
    )
    return ocp.CheckpointManager(directory, options=options)


class _Best:
    """Orbax preservation policy that keeps the best checkpoint.

    Orbax's own policy `BestN` ranks metrics that Orbax stores. It knows them after a restart only
    without `lightweight_initialize`, and metrics cannot be added after the save.
    """

    def __init__(self, best_step: Callable[[], int | None]) -> None:
        self.best_step = best_step

    def should_preserve(
        self,
        checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: checkpoint_managers.PreservationContext,
    ) -> list[bool]:
        del context
        best = self.best_step()
        return [checkpoint.step == best for checkpoint in checkpoints]


def remove_unfinished(directory: Path, quiet_seconds: float = 0.0) -> None:
    """Delete the files of saves that were killed or failed.

    A save fails at its first error, while threads of Orbax still write its other files. After an
    error this function therefore repeats until no file was written for some time. The next save
    deletes files that are written later.

    Args:
        directory: Directory of the checkpoints.
        quiet_seconds: Seconds without new files after which this function returns. It returns
            after ten times as long in any case.
    """
    started = last_found = time.monotonic()
    while True:
        unfinished = list(directory.glob("*.orbax-checkpoint-tmp*"))
        for path in unfinished:
            shutil.rmtree(path, ignore_errors=True)
        now = time.monotonic()
        last_found = now if unfinished else last_found
        if now - last_found >= quiet_seconds or now - started >= 10 * quiet_seconds:
            return
        time.sleep(0.02)


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Hide the stack traces that threads of Orbax print for an error that is raised here too."""
    logger = absl_logging.get_absl_logger()
    level, hook = logger.level, sys.unraisablehook

    def filtered(unraisable: Any) -> None:
        # TensorStore raises one for each array that it still writes when another one has failed.
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = filtered
    try:
        yield
        sys.unraisablehook = hook  # after an error it remains, since TensorStore may still write
    finally:
        logger.setLevel(level)
