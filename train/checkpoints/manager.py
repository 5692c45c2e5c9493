"""Weights and iterator state leave and come back here.

A directory of checkpoints, each a directory named after its step, written by Orbax:

    12/state/            the arrays: nested dicts of NumPy arrays in one OCDBT database
    12/record/metadata   what they must be, the metrics and the feed states: `checkpoint_record`
    12.damaged/          a checkpoint that could not be read back whole; never deleted from here

Saving is synchronous: when `save` returns, the checkpoint is on disk under its final name, its
buffers may be donated, and an error has been raised where it belongs. Orbax writes under a
temporary name and renames at the end, so a killed process leaves the earlier checkpoints alone.
"""

import contextlib
import dataclasses
import itertools
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax import traverse_util

from train.checkpoints import record as checkpoint_record
from train.checkpoints.reading import Restored, State, orbax_quiet, read_arrays, restored
from train.checkpoints.record import DamagedError
from train.runtime.distributed import gather_from_processes, is_primary_process

__all__ = ["AllDamagedError", "Checkpoints"]


class AllDamagedError(RuntimeError):
    """No checkpoint of a run can be read back whole."""


class Checkpoints:
    """The checkpoints of one run: the newest `keep_last`, and the best by `best_metric` (highest).

    `warn` is called with a message for each damaged checkpoint. All processes of a run make and
    call this together, on a file system they share; no second run may use the same directory.
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        keep_last: int = 2,
        best_metric: str = "eval_accuracy",
        warn: Callable[[str], object] = absl_logging.warning,
    ) -> None:
        if keep_last < 1:
            raise ValueError(f"keep_last is {keep_last}; expected at least 1, the newest.")
        self.directory = Path(directory).absolute()
        self.keep_last = keep_last
        self.best_metric = best_metric
        self._warn = warn
        self._sweep()
        self._manager = self._open()
        self._scores: dict[int, float] = {}
        for step in self.all_steps:
            # A damaged record has no score; it is reported when it would have been restored.
            with contextlib.suppress(DamagedError):
                self._note_score(step, checkpoint_record.read_record(self._path(step)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what Orbax holds."""
        self._manager.close()

    def wait(self) -> None:
        """Return when nothing is being written; at once, since saving is synchronous."""
        self._manager.wait_until_finished()

    @property
    def all_steps(self) -> list[int]:
        """The steps with a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The newest checkpoint's step; None where there is none."""
        return max(self.all_steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The best checkpoint's step, the newest of equals; None where none was evaluated."""
        return next(iter(self._steps_by_score()), None)

    def save(
        self,
        step: int,
        state: Any,
        feed_state: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Write a checkpoint; it is whole on disk when this returns.

        `state` is a pytree of arrays, on one device or replicated; `feed_state` is this process's
        own, of JSON values. Without `best_metric` among `metrics` it is never the best.

        Raises:
            ValueError: the step is not after the newest.
            TypeError: a leaf is not an array, or the feed state is not JSON.
            OSError: it could not be written (a full disk). The earlier checkpoints are whole then,
                and the same step may be saved again.
        """
        if self.latest_step is not None and step <= self.latest_step:
            raise ValueError(
                f"cannot save step {step} in {self.directory}: the newest checkpoint there is of "
                f"step {self.latest_step}, and steps only go up. Was this step saved already, or "
                f"was the run continued from an older checkpoint? Use another directory for that."
            )
        leaves = checkpoint_record.named_leaves(state)
        # To the host first: having Orbax write device arrays takes twice as long, and this way the
        # files know nothing of the devices, so that they can be read on any others.
        arrays = jax.tree.map(np.asarray, jax.device_get(leaves))
        record = checkpoint_record.make_record(step, arrays, feed_state, metrics or {})
        self._note_score(step, record)
        self._sweep()  # Orbax refuses a step of which a failed save has left something
        try:
            with orbax_quiet():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(traverse_util.unflatten_dict(arrays, sep="/")),
                        record=ocp.args.JsonSave(record),
                    ),
                    force=True,  # whether this step is worth a checkpoint was the caller's decision
                )
        except Exception as error:
            self._scores.pop(step, None)
            self._sweep(quiet=0.5)  # what was written of it may be what fills the disk
            raise self._not_saved(step, str(error)) from error

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Say of a checkpoint what its evaluation found, where that came after saving it.

        Raises:
            OSError: it could not be written; the checkpoint is as before then.
        """
        record = checkpoint_record.read_record(self._path(step))
        gather_from_processes(None)  # until all have read it
        record["metrics"] = {name: float(value) for name, value in metrics.items()}
        if is_primary_process():
            checkpoint_record.write_record(self._path(step), record)
        gather_from_processes(None)
        self._note_score(step, record)

    def restore(self, template: State) -> Restored[State] | None:
        """The newest whole checkpoint, or None where there is none at all.

        Every leaf comes back bit for bit, with the shape, dtype and devices of `template`'s. A
        damaged checkpoint is renamed to `<step>.damaged`, told to `warn`, and the one before it is
        read; so the run goes on, and can save that step again.

        Raises:
            AllDamagedError: all of them are damaged; nothing is renamed then.
            ValueError: a whole one holds other arrays than `template`, all listed; or it is of
                another number of processes, each with a feed state of its own.
        """
        return self._first_whole(self.all_steps[::-1], template)

    def best(self, template: State) -> Restored[State] | None:
        """As `restore`, from the best checkpoint down; None where none was evaluated."""
        return self._first_whole(self._steps_by_score(), template)

    def _first_whole(self, steps: Sequence[int], template: State) -> Restored[State] | None:
        damaged: dict[int, str] = {}
        for step in steps:
            reason = ""
            try:
                record = checkpoint_record.read_record(self._path(step))
                checkpoint_record.require_same_leaves(self._path(step), record, template)
                arrays = read_arrays(self._path(step), record)
            except DamagedError as error:
                reason = str(error)
            # All processes have to settle on the same checkpoint.
            if all(gather_from_processes(not reason)):
                break
            damaged[step] = reason or "another process could not read it"
        else:
            if damaged:
                raise AllDamagedError(
                    f"no checkpoint in {self.directory} is whole:\n"
                    + "\n".join(f"  step {step}: {reason}" for step, reason in damaged.items())
                    + "\nNothing was deleted or renamed. Put a copy of one of them back, or move "
                    "the directory away to start over."
                )
            return None
        whole = restored(record, arrays, template)
        self._set_aside(damaged, instead=step)
        return whole

    def _set_aside(self, damaged: Mapping[int, str], instead: int) -> None:
        """Rename the damaged checkpoints, so that their steps can be saved again, and say so."""
        for step, reason in damaged.items():
            path = self._path(step)
            names = (f"{step}.damaged" + f"-{n}" * (n > 1) for n in itertools.count(1))
            aside = next(free for free in map(path.with_name, names) if not free.exists())
            if is_primary_process():
                path.rename(aside)
            self._scores.pop(step, None)
            self._warn(
                f"The checkpoint of step {step}, {path}, is damaged: {reason}. It is now called "
                f"{aside.name}, and the checkpoint of step {instead} is used instead."
            )
        if damaged:
            self._manager.close()
            gather_from_processes(None)  # until process 0 is done renaming
            self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        """Orbax's manager over what is in the directory now."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_NewestAndBest(self.keep_last, lambda: self.best_step),
            enable_async_checkpointing=False,
            lightweight_initialize=True,  # otherwise damaged metadata stops the constructor
            num_deletion_threads=1,  # several poll a queue, for 0.1 s with each deletion
        )
        return ocp.CheckpointManager(self.directory, options=options)

    def _sweep(self, quiet: float = 0.0) -> None:
        """Remove what a save that was killed or failed has left half-written.

        A save fails at its first error, while threads of Orbax still write its other files, and so
        make anew what was removed. So it ends when nothing has come for `quiet` seconds; after ten
        times as long it is left to the next save.
        """
        if not is_primary_process():
            return
        last = started = time.monotonic()
        while True:
            half_written = list(self.directory.glob("*.orbax-checkpoint-tmp*"))
            for path in half_written:
                shutil.rmtree(path, ignore_errors=True)
            now = time.monotonic()
            last = now if half_written else last
            if now - last >= quiet or now - started >= 10 * quiet:
                return
            time.sleep(0.02)

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _note_score(self, step: int, record: Mapping[str, Any]) -> None:
        score = record["metrics"].get(self.best_metric, math.nan)
        if not math.isnan(score):
            self._scores[step] = score

    def _steps_by_score(self) -> list[int]:
        """The evaluated steps, best first, the newer before the older of equals."""
        steps = [step for step in self.all_steps if step in self._scores]
        return sorted(steps, key=lambda step: (self._scores[step], step), reverse=True)

    def _not_saved(self, step: int, reason: str) -> OSError:
        return OSError(
            f"could not save the checkpoint of step {step} in {self.directory}: {reason}; "
            f"{shutil.disk_usage(self.directory).free:,} bytes are free there. The earlier "
            f"checkpoints, of steps {self.all_steps}, are whole: free some space, or put right "
            f"what else is wrong, and start again to go on from the newest."
        )


@dataclasses.dataclass(frozen=True)
class _NewestAndBest:
    """Which checkpoints Orbax keeps after a save: a `PreservationPolicy` of its."""

    keep_last: int
    best_step: Callable[[], int | None]

    def should_preserve(
        self,
        checkpoints: Sequence[ocp.checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: ocp.checkpoint_managers.PreservationContext,
    ) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        keep = {self.best_step(), *sorted(steps)[-self.keep_last :]}
        return [step in keep for step in steps]
