"""Checkpoints as they lie on disk, read without changing anything: a run may be writing there."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax import traverse_util

from train.checkpoints import record as checkpoint_record
from train.checkpoints.record import DamagedError

__all__ = [
    "Restored",
    "State",
    "checkpoint_steps",
    "orbax_quiet",
    "read_arrays",
    "read_checkpoint",
    "restored",
]

State = TypeVar("State")


class Restored(NamedTuple, Generic[State]):
    """What a checkpoint gives back.

    The state, this process's feed state, the step, and the metrics it was saved with, none where it
    was not evaluated.
    """

    state: State
    feed_state: dict[str, Any]
    step: int
    metrics: dict[str, float]


def read_checkpoint(
    directory: Path, which: str, template: State, *, best_metric: str
) -> Restored[State]:
    """One checkpoint of a run: "last", "best" (by `best_metric`, highest) or a step's number.

    Raises:
        FileNotFoundError: there is no checkpoint, or none of that step, or none was evaluated.
        ValueError: it is damaged, or holds other arrays than `template`.
    """
    steps = checkpoint_steps(directory)
    if not steps:
        raise FileNotFoundError(
            f"expected checkpoints in {directory}, found none. Is this the --workdir of a run that "
            f"got as far as its first checkpoint?"
        )
    try:
        records = {}
        wanted = steps if which == "best" else steps[-1:] if which == "last" else [int(which)]
        for step in wanted:
            if step not in steps:
                raise FileNotFoundError(
                    f"there is no checkpoint of step {step} in {directory}; there are those of "
                    f"steps {', '.join(map(str, steps))}."
                )
            records[step] = checkpoint_record.read_record(directory / str(step))
        if which == "best":
            scored = {
                step: record["metrics"][best_metric]
                for step, record in records.items()
                if best_metric in record["metrics"]
            }
            if not scored:
                raise FileNotFoundError(
                    f"no checkpoint in {directory} was evaluated yet; use --step=last."
                )
            step = max(scored, key=lambda step: (scored[step], step))
        record = records[step]
        checkpoint_record.require_same_leaves(directory / str(step), record, template)
        arrays = read_arrays(directory / str(step), record)
    except DamagedError as error:
        raise ValueError(
            f"the checkpoint of step {step} in {directory} is damaged: {error}. Use another one "
            f"with --step, of steps {', '.join(map(str, steps))}."
        ) from error
    return restored(record, arrays, template)


def checkpoint_steps(directory: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first; half-written ones have other names."""
    return sorted(int(path.name) for path in directory.glob("[0-9]*") if path.name.isdigit())


def read_arrays(checkpoint: Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name.

    Raises:
        DamagedError: they are not bit for bit the recorded ones.
    """
    # By the handler: the manager would wait for other processes, which may have found damage.
    with checkpoint_record.damage(), orbax_quiet():
        # Orbax refuses a relative path, such as --workdir=runs/digits.
        tree = ocp.StandardCheckpointHandler().restore(
            checkpoint.absolute() / "state", args=ocp.args.StandardRestore()
        )
        flat = traverse_util.flatten_dict(tree, sep="/")
        arrays = {name: np.asarray(array) for name, array in flat.items()}
    checkpoint_record.require_recorded(record, arrays)
    return arrays


def restored(
    record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], template: State
) -> Restored[State]:
    """What a checkpoint gives back, as `template` has it."""
    leaves = checkpoint_record.named_leaves(template).items()
    placed = [checkpoint_record.place(arrays[name], like) for name, like in leaves]
    return Restored(
        jax.tree.unflatten(jax.tree.structure(template), placed),
        checkpoint_record.own_feed_state(record),
        record["step"],
        record["metrics"],
    )


@contextlib.contextmanager
def orbax_quiet() -> Iterator[None]:
    """Keep an error that is raised here from being told again in tracebacks of Orbax's threads."""
    logger = absl_logging.get_absl_logger()
    level, hook = logger.level, sys.unraisablehook

    def filtered(unraisable: Any) -> None:
        # One for each array that TensorStore was still at when the first failed.
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = filtered
    try:
        yield
        sys.unraisablehook = hook  # after an error it stays: TensorStore may not be through yet
    finally:
        logger.setLevel(level)
