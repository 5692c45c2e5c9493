"""Save and restore the checkpoints of a run.

The process may be killed at any time. These properties remain:

1. Each checkpoint for which `save` returned is complete, until `keep_last` lets it be deleted.
2. An unfinished checkpoint has a temporary name, is never restored, and is deleted at the next
   start.
3. `restore` returns the newest complete checkpoint, and checks the CRC-32 of each array.
4. A damaged checkpoint is renamed, never deleted, and the checkpoint before it is restored.
5. `add_metrics` replaces the record of a checkpoint atomically, so it has the old or the new
   metrics.

Each checkpoint is a directory named after its step, which Orbax writes::

    12/state/            the arrays: nested dicts of NumPy arrays in one OCDBT database
    12/record/metadata   metrics, feed states and checksums, see `train.checkpoints.record`
    12.damaged/          a checkpoint that could not be restored

Saving is synchronous: after `save` the buffers of the state may be donated, and an error is raised
by the call that caused it.
"""

import itertools
import shutil
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
from train.checkpoints.orbax_manager import open_manager, quiet_orbax, remove_unfinished
from train.checkpoints.reading import (
    Restored,
    State,
    make_restored,
    rank_by_metric,
    read_arrays,
    read_metrics,
)
from train.checkpoints.record import DamagedError
from train.runtime.distributed import gather_from_processes, is_primary_process

__all__ = ["AllDamagedError", "Checkpoints"]


class AllDamagedError(RuntimeError):
    """All checkpoints of a run are damaged."""


class Checkpoints:
    """The checkpoints of one run: the newest ones, and the best one.

    All processes of a run make the same calls, on a shared file system. A directory must not be
    used by two runs at the same time.

    Args:
        directory: Directory of the checkpoints. It is created if it does not exist.
        keep_last: Number of the newest checkpoints to keep.
        best_metric: Name of the metric whose highest value marks the best checkpoint, which is kept
            too. If values are equal, the newest is the best.
        warn: Called with a message for each damaged checkpoint.

    Raises:
        ValueError: If `keep_last` is less than 1.
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
            raise ValueError(f"expected keep_last of at least 1, got {keep_last}.")
        self.directory = Path(directory).absolute()
        self.keep_last = keep_last
        self.best_metric = best_metric
        self._warn = warn
        self._remove_unfinished()
        self._manager = self._open_manager()
        self._metrics = {step: read_metrics(self._path(step)) for step in self.all_steps}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the resources of Orbax."""
        self._manager.close()

    def save(
        self,
        step: int,
        state: Any,
        feed_state: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Write a checkpoint, and delete the ones that are no longer kept.

        Args:
            step: Step of the checkpoint, after the step of the newest checkpoint.
            state: Pytree of arrays, on one device or replicated.
            feed_state: Position of this process in the data, as JSON values.
            metrics: Metrics of the evaluation. A checkpoint without `best_metric` is never the
                best.

        Raises:
            ValueError: If the step is not after the newest one.
            TypeError: If a leaf is not an array, or the feed state is not JSON.
            OSError: If the checkpoint could not be written, for example on a full disk. The earlier
                checkpoints are complete, and the same step can be saved again.
        """
        if self.latest_step is not None and step <= self.latest_step:
            raise ValueError(
                f"cannot save step {step} in {self.directory}: expected a step after the newest "
                f"checkpoint, of step {self.latest_step}. Probably this step was saved already, or "
                f"the run was restored from an older checkpoint; use another directory for that."
            )
        leaves = checkpoint_record.named_leaves(state)
        # Orbax takes twice as long to write device arrays. Files of NumPy arrays also do not record
        # the devices, so any others can read them.
        arrays = jax.tree.map(np.asarray, jax.device_get(leaves))
        record = checkpoint_record.make_record(step, arrays, feed_state, metrics or {})
        self._metrics[step] = record["metrics"]
        self._remove_unfinished()  # Orbax refuses a step if a failed save has left files of it
        try:
            with quiet_orbax():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(traverse_util.unflatten_dict(arrays, sep="/")),
                        record=ocp.args.JsonSave(record),
                    ),
                    force=True,  # the caller has decided to save this step
                )
        except Exception as error:
            del self._metrics[step]
            self._remove_unfinished(quiet_seconds=0.5)  # its files may be what fills the disk
            raise OSError(
                f"could not save the checkpoint of step {step} in {self.directory}: {error}; "
                f"{shutil.disk_usage(self.directory).free:,} bytes are free. The earlier "
                f"checkpoints, of steps {self.all_steps}, are complete. Free some disk space, or "
                f"fix the error, and start the same command again: it resumes from the newest one."
            ) from error

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of an evaluation to a checkpoint that was saved before it.

        Args:
            step: Step of the checkpoint.
            metrics: Metrics of the evaluation by name.

        Raises:
            OSError: If the record could not be written. The checkpoint is unchanged.
        """
        record = checkpoint_record.read_record(self._path(step))
        gather_from_processes(None)  # wait until all processes have read it
        record["metrics"] = {name: float(value) for name, value in metrics.items()}
        if is_primary_process():
            checkpoint_record.write_record(self._path(step), record)
        gather_from_processes(None)
        self._metrics[step] = record["metrics"]

    def restore(self, template: State) -> Restored[State] | None:
        """Restore the newest complete checkpoint.

        Each damaged checkpoint after it is renamed to `<step>.damaged` and passed to `warn`, so
        that its step can be saved again.

        Args:
            template: Pytree of arrays or `jax.ShapeDtypeStruct`s with the expected shapes, dtypes
                and devices.

        Returns:
            The checkpoint, with bitwise identical arrays on the devices of `template`; None if
            there is no checkpoint.

        Raises:
            AllDamagedError: If all checkpoints are damaged. None is renamed.
            DifferentArraysError: If the checkpoint has other arrays than `template`.
            ValueError: If another number of processes wrote it with different feed states.
        """
        return self._restore_first_complete(self.all_steps[::-1], template)

    def restore_best(self, template: State) -> Restored[State] | None:
        """Restore the best complete checkpoint.

        Args:
            template: As in `restore`.

        Returns:
            The checkpoint as in `restore`; None if no checkpoint was evaluated.

        Raises:
            AllDamagedError: If all evaluated checkpoints are damaged. None is renamed.
            ValueError: As in `restore`.
        """
        return self._restore_first_complete(self._steps_by_metric(), template)

    def _restore_first_complete(
        self, steps: Sequence[int], template: State
    ) -> Restored[State] | None:
        """Restore the first checkpoint that every process can read; None if there is none."""
        damaged: dict[int, str] = {}
        for step in steps:
            reason = ""
            try:
                record = checkpoint_record.read_record(self._path(step))
                checkpoint_record.check_same_leaves(self._path(step), record, template)
                arrays = read_arrays(self._path(step), record)
            except DamagedError as error:
                reason = str(error)
            # All processes must restore the same checkpoint.
            if all(gather_from_processes(not reason)):
                restored = make_restored(record, arrays, template)
                self._rename_damaged(damaged, restored_step=step)
                return restored
            damaged[step] = reason or "another process could not read it"
        if damaged:
            raise AllDamagedError(
                f"all checkpoints in {self.directory} are damaged:\n"
                + "\n".join(f"  step {step}: {reason}" for step, reason in damaged.items())
                + "\nNone was deleted or renamed. Put a copy of one of them back, or move the "
                "directory away to start over."
            )
        return None

    def _rename_damaged(self, damaged: Mapping[int, str], restored_step: int) -> None:
        """Rename damaged checkpoints, so that their steps can be saved again, and warn."""
        for step, reason in damaged.items():
            path = self._path(step)
            names = (f"{step}.damaged" + f"-{n}" * (n > 1) for n in itertools.count(1))
            renamed = next(free for free in map(path.with_name, names) if not free.exists())
            if is_primary_process():
                path.rename(renamed)
            self._metrics.pop(step, None)
            self._warn(
                f"The checkpoint of step {step}, {path}, is damaged: {reason}. It was renamed to "
                f"{renamed.name}, and the checkpoint of step {restored_step} is used instead."
            )
        if damaged:
            self._manager.close()
            gather_from_processes(None)  # wait until the primary process has renamed them
            self._manager = self._open_manager()

    @property
    def all_steps(self) -> list[int]:
        """Return the steps of the checkpoints, in ascending order."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """Return the step of the newest checkpoint; None if there is none."""
        return max(self.all_steps, default=None)

    @property
    def best_step(self) -> int | None:
        """Return the step of the best checkpoint; None if none was evaluated."""
        return next(iter(self._steps_by_metric()), None)

    def _steps_by_metric(self) -> list[int]:
        existing = {step: self._metrics[step] for step in self.all_steps if step in self._metrics}
        return rank_by_metric(existing, self.best_metric)

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _open_manager(self) -> ocp.CheckpointManager:
        return open_manager(self.directory, self.keep_last, lambda: self.best_step)

    def _remove_unfinished(self, quiet_seconds: float = 0.0) -> None:
        if is_primary_process():
            remove_unfinished(self.directory, quiet_seconds)
