"""The record of a checkpoint: its metadata, and checksums that prove that it is intact.

The record is JSON. It has the step, the metrics, the feed state of each process, and the shape,
dtype and CRC-32 of each array under a name such as `params/stem/kernel`. Its field `seal` is the
CRC-32 of all other fields.
"""

import contextlib
import json
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.differences import DifferentArraysError, list_differences
from train.runtime.distributed import gather_from_processes
from train.runtime.writing import write_atomically

__all__ = [
    "DamagedError",
    "check_same_leaves",
    "check_same_values",
    "errors_as_damage",
    "local_feed_state",
    "make_record",
    "named_leaves",
    "place_like",
    "read_record",
    "write_record",
]


class DamagedError(Exception):
    """A checkpoint cannot be read, or differs from what was written. The message has the reason."""


@contextlib.contextmanager
def errors_as_damage() -> Iterator[None]:
    """Raise `DamagedError` for any error except missing memory or a missing permission.

    Raises:
        DamagedError: If the body raises another error.
    """
    try:
        yield
    except (DamagedError, MemoryError, PermissionError):
        raise
    except Exception as error:  # Orbax, TensorStore and JSON raise a dozen classes of errors
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise DamagedError(reason) from error


def make_record(
    step: int,
    arrays: Mapping[str, np.ndarray],
    feed_state: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    """Make the record of a checkpoint. All processes of a run call this function.

    Args:
        step: Step of the checkpoint.
        arrays: Arrays of the state by name.
        feed_state: Position of this process in the data.
        metrics: Metrics of the evaluation.

    Returns:
        The record as JSON values, with its own checksum `seal`.

    Raises:
        TypeError: If the feed state is not JSON.
    """
    record = {
        "step": step,
        "metrics": {name: float(value) for name, value in metrics.items()},
        "feed_states": gather_from_processes(dict(feed_state)),
        "leaves": {name: _fingerprint(array) for name, array in arrays.items()},
    }
    return record | {"seal": _seal(record)}


def read_record(checkpoint: Path) -> dict[str, Any]:
    """Read the record of a checkpoint.

    Args:
        checkpoint: Directory of the checkpoint.

    Returns:
        The record without its checksum `seal`.

    Raises:
        DamagedError: If the record is missing, or differs from what was written.
    """
    with errors_as_damage():
        text = (checkpoint / "record" / "metadata").read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        if record.pop("seal") != _seal(record):
            raise DamagedError("its record differs from what was written")
    return record


def write_record(checkpoint: Path, record: Mapping[str, Any]) -> None:
    """Replace the record of a checkpoint atomically.

    Args:
        checkpoint: Directory of the checkpoint.
        record: The new record without its checksum `seal`, which is added.

    Raises:
        OSError: If the record could not be written.
    """
    text = json.dumps({**record, "seal": _seal(record)})
    write_atomically(checkpoint / "record" / "metadata", text)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Name the arrays of a pytree.

    Args:
        tree: Pytree of arrays.

    Returns:
        The arrays in the order of the tree, by names such as `params/stem/kernel`.

    Raises:
        TypeError: If a leaf is not an array.
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not hasattr(leaf, "dtype"):
            raise TypeError(
                f"expected an array as leaf {name} of the state, got {leaf!r}, a "
                f"{type(leaf).__name__}. Convert it with jnp.asarray, or make it a static field."
            )
        named[name] = leaf
    return named


def check_same_leaves(path: Path, record: Mapping[str, Any], template: Any) -> None:
    """Check that a checkpoint has the arrays of `template`.

    Args:
        path: Directory of the checkpoint, for the error message.
        record: Record of the checkpoint.
        template: Pytree of arrays with the expected names, shapes and dtypes.

    Raises:
        DifferentArraysError: If arrays are missing, unexpected, or of another shape or dtype.
    """
    saved = {
        name: jax.ShapeDtypeStruct(leaf["shape"], leaf["dtype"])
        for name, leaf in record["leaves"].items()
    }
    expected = named_leaves(template)
    lines = list_differences(expected, saved)
    if lines:
        raise DifferentArraysError(
            f"the checkpoint {path} has other arrays than this run's state",
            lines,
            "The checkpoint is intact, so another model or optimizer wrote it. Use that one, or "
            "another directory.",
        )


def check_same_values(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Check that arrays are bitwise identical to the recorded ones.

    Args:
        record: Record of the checkpoint.
        arrays: Arrays of the checkpoint by name.

    Raises:
        DamagedError: If arrays are missing or have changed. The message names all of them.
    """
    wrong = [
        name
        for name, described in record["leaves"].items()
        if name not in arrays or _fingerprint(arrays[name]) != described
    ]
    if wrong:
        raise DamagedError(f"missing or changed since it was written: {', '.join(wrong)}")


def place_like(array: np.ndarray, like: Any) -> Any:
    """Place an array on the devices of another one.

    Args:
        array: The array.
        like: NumPy array, JAX array, or `jax.ShapeDtypeStruct` with a sharding.

    Returns:
        A NumPy array if `like` is one; otherwise a JAX array, committed to its devices if `like`
        is.
    """
    if isinstance(like, np.ndarray | np.generic):
        return array
    if isinstance(like, jax.Array) and not like.committed:
        return jnp.array(array)
    return jax.make_array_from_callback(array.shape, like.sharding, lambda index: array[index])


def local_feed_state(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feed state of this process.

    Args:
        record: Record of the checkpoint.

    Returns:
        The feed state that the process with this index saved, or that all processes saved.

    Raises:
        ValueError: If another number of processes wrote the checkpoint, with different feed states.
    """
    feed_states: list[dict[str, Any]] = record["feed_states"]
    if len(feed_states) == jax.process_count():
        return feed_states[jax.process_index()]
    if all(feed_state == feed_states[0] for feed_state in feed_states):
        return feed_states[0]
    raise ValueError(
        f"the checkpoint of step {record['step']} was written by {len(feed_states)} processes with "
        f"different feed states, and this run has {jax.process_count()}, so the remaining examples "
        f"are unknown. Start the run with {len(feed_states)} processes."
    )


def _fingerprint(array: np.ndarray) -> dict[str, Any]:
    # As bytes, because NumPy has no buffer interface for dtypes of other packages (bfloat16).
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return {"shape": [*array.shape], "dtype": array.dtype.name, "crc32": zlib.crc32(data)}


def _seal(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
