"""Read checkpoints without changing any file, even while a run writes more of them."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from train.checkpoints import record as checkpoint_record
from train.checkpoints.orbax_manager import quiet_orbax
from train.checkpoints.record import DamagedError

__all__ = [
    "Restored",
    "State",
    "check_step",
    "checkpoint_steps",
    "make_restored",
    "rank_by_metric",
    "read_arrays",
    "read_checkpoint",
    "read_eval_variables",
    "read_metrics",
]

State = TypeVar("State")
Leaf = TypeVar("Leaf")


class Restored(NamedTuple, Generic[State]):
    """A restored checkpoint.

    Attributes:
        state: Pytree of arrays.
        feed_state: Position of this process in the data.
        step: Step of the checkpoint.
        metrics: Metrics of its evaluation; empty if it was not evaluated.
    """

    state: State
    feed_state: dict[str, Any]
    step: int
    metrics: dict[str, float]


def read_checkpoint(
    directory: Path, step: str, template: State, *, best_metric: str
) -> Restored[State]:
    """Read one checkpoint of a run.

    Args:
        directory: Directory of the checkpoints.
        step: `"last"`, `"best"` or the number of a step.
        template: Pytree of arrays with the expected shapes, dtypes and devices.
        best_metric: Name of the metric whose highest value marks the best checkpoint.

    Returns:
        The checkpoint, with its arrays on the devices of `template`.

    Raises:
        FileNotFoundError: If there is no checkpoint, none of that step, or none was evaluated.
        DifferentArraysError: If the checkpoint has other arrays than `template`.
        ValueError: If `step` is something else, or the checkpoint is damaged.
    """
    with _found_checkpoint(directory, step, best_metric) as (checkpoint, record):
        checkpoint_record.check_same_leaves(checkpoint, record, template)
        arrays = read_arrays(checkpoint, record)
    return make_restored(record, arrays, template)


def read_eval_variables(
    directory: Path, step: str, template: Mapping[str, Any], *, best_metric: str
) -> Restored[dict[str, Any]]:
    """Read the variables with which a checkpoint of a run is evaluated.

    They are the moving averages if the run has them, and otherwise the parameters and the
    running statistics.

    Args:
        directory: Directory of the checkpoints.
        step: `"last"`, `"best"` or the number of a step.
        template: Variables of the network, or their shapes.
        best_metric: Name of the metric whose highest value marks the best checkpoint.

    Returns:
        The variables as NumPy arrays. The feed state is empty.

    Raises:
        FileNotFoundError: As in `read_checkpoint`.
        ValueError: As in `read_checkpoint`.
    """
    with _found_checkpoint(directory, step, best_metric) as (checkpoint, record):
        leaves = {**record, "leaves": _eval_variables(record["leaves"])}
        checkpoint_record.check_same_leaves(checkpoint, leaves, template)
        arrays = _eval_variables(read_arrays(checkpoint, record))
    variables = traverse_util.unflatten_dict(arrays, sep="/")
    return Restored(variables, {}, record["step"], record["metrics"])


@contextlib.contextmanager
def _found_checkpoint(
    directory: Path, step: str, best_metric: str
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the directory and the record of a checkpoint, and raise `ValueError` for damage."""
    check_step(step)
    steps = checkpoint_steps(directory)
    if not steps:
        raise FileNotFoundError(
            f"expected checkpoints in {directory}, found none. Probably this is not the --workdir "
            f"of a run, or the run has not saved a checkpoint yet."
        )
    number = _find_step(directory, step, steps, best_metric)
    checkpoint = directory / str(number)
    try:
        yield checkpoint, checkpoint_record.read_record(checkpoint)
    except DamagedError as error:
        raise ValueError(
            f"the checkpoint of step {number} in {directory} is damaged: {error}. Use another one "
            f"with --step, of steps {', '.join(map(str, steps))}."
        ) from error


def _eval_variables(leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Select the leaves of `TrainState.eval_variables` from the leaves of a `TrainState`."""
    averages = {x.removeprefix("ema/"): leaf for x, leaf in leaves.items() if x.startswith("ema/")}
    return averages or {
        name: leaf for name, leaf in leaves.items() if name.startswith(("params/", "batch_stats/"))
    }


def check_step(step: str) -> None:
    """Check the name of a step, before anything is read.

    Args:
        step: Should be "best", "last" or a number.

    Raises:
        ValueError: If it is something else.
    """
    if step not in ("best", "last") and not step.isdigit():
        raise ValueError(
            f"expected --step=best, --step=last or the number of a step, got {step!r}."
        )


def _find_step(directory: Path, step: str, steps: Sequence[int], best_metric: str) -> int:
    """Return the number of the step that "best", "last" or a number means."""
    if step == "last":
        return steps[-1]
    if step == "best":
        metrics = {number: read_metrics(directory / str(number)) for number in steps}
        if ranked := rank_by_metric(metrics, best_metric):
            return ranked[0]
        raise FileNotFoundError(
            f"expected an evaluated checkpoint in {directory}, found none. Use --step=last."
        )
    if int(step) not in steps:
        raise FileNotFoundError(
            f"found no checkpoint of step {step} in {directory}; expected one of steps "
            f"{', '.join(map(str, steps))}."
        )
    return int(step)


def read_metrics(checkpoint: Path) -> Mapping[str, float]:
    """Read the metrics of a checkpoint.

    Args:
        checkpoint: Directory of the checkpoint.

    Returns:
        Metrics by name. It is empty if the checkpoint was not evaluated or its record is damaged,
        which is reported where the checkpoint is restored.
    """
    try:
        metrics: Mapping[str, float] = checkpoint_record.read_record(checkpoint)["metrics"]
    except DamagedError:
        return {}
    return metrics


def checkpoint_steps(directory: Path) -> list[int]:
    """List the complete checkpoints.

    Args:
        directory: Directory of the checkpoints. It may be missing.

    Returns:
        Their steps, in ascending order.

    Raises:
        OSError: If the directory may not be read. `Path.glob` would find nothing in it.
    """
    names = os.listdir(directory) if directory.exists() else []
    # Unfinished and damaged checkpoints have other names.
    return sorted(int(name) for name in names if name.isdigit())


def rank_by_metric(metrics: Mapping[int, Mapping[str, float]], name: str) -> list[int]:
    """Rank checkpoints by a metric.

    Args:
        metrics: Metrics of each step.
        name: Name of the metric.

    Returns:
        Steps that have the metric, from the highest value down; of equal values the newest step
        comes first. Steps whose metric is NaN are left out.
    """
    values = {step: values.get(name, math.nan) for step, values in metrics.items()}
    evaluated = [step for step, value in values.items() if not math.isnan(value)]
    return sorted(evaluated, key=lambda step: (values[step], step), reverse=True)


def read_arrays(checkpoint: Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the arrays of a checkpoint, and compare them with their checksums.

    Args:
        checkpoint: Directory of the checkpoint.
        record: Its record, from `read_record`.

    Returns:
        The arrays by name, such as `params/stem/kernel`.

    Raises:
        DamagedError: If the arrays cannot be read, or differ from the record.
    """
    # Use the handler. Orbax's manager would wait for processes that found damage.
    with checkpoint_record.errors_as_damage(), quiet_orbax():
        # Orbax requires an absolute path, and --workdir=runs/digits is a relative one.
        tree = ocp.StandardCheckpointHandler().restore(
            checkpoint.absolute() / "state", args=ocp.args.StandardRestore()
        )
        flat = traverse_util.flatten_dict(tree, sep="/")
        arrays = {name: np.asarray(array) for name, array in flat.items()}
    checkpoint_record.check_same_values(record, arrays)
    return arrays


def make_restored(
    record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], template: State
) -> Restored[State]:
    """Place the arrays of a checkpoint on the devices of `template`.

    Args:
        record: Record of the checkpoint.
        arrays: Its arrays by name.
        template: Pytree of arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        The checkpoint, with a state of the same structure as `template`.

    Raises:
        ValueError: If another number of processes wrote it, with different feed states.
    """
    leaves = checkpoint_record.named_leaves(template).items()
    placed = [checkpoint_record.place_like(arrays[name], like) for name, like in leaves]
    return Restored(
        jax.tree.unflatten(jax.tree.structure(template), placed),
        checkpoint_record.local_feed_state(record),
        record["step"],
        record["metrics"],
    )
