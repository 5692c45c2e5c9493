"""What a checkpoint says of itself, so that reading it back can be proved right.

The record is JSON: the step, the metrics, the feed state of every process, and the shape, dtype
and CRC-32 of every array under names such as `params/stem/kernel`; its `seal` is the CRC-32 of all
the rest.
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

from aff_jax.differences import list_differences
from train.runtime.distributed import gather_from_processes
from train.runtime.writing import write_atomically

__all__ = [
    "DamagedError",
    "damage",
    "make_record",
    "named_leaves",
    "own_feed_state",
    "place",
    "read_record",
    "require_recorded",
    "require_same_leaves",
    "write_record",
]


class DamagedError(Exception):
    """A checkpoint can't be read back as it was written; the message says what is wrong."""


@contextlib.contextmanager
def damage() -> Iterator[None]:
    """Take any error of reading for damage, but for those that say nothing of the checkpoint."""
    try:
        yield
    except (DamagedError, MemoryError, PermissionError):
        raise
    except Exception as error:  # Orbax, TensorStore and JSON raise a dozen kinds between them
        said = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise DamagedError(said) from error


def make_record(
    step: int,
    arrays: Mapping[str, np.ndarray],
    feed_state: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    """The sealed record of a checkpoint; `feed_state` is this process's own.

    Raises:
        TypeError: the feed state is not JSON.
    """
    record = {
        "step": step,
        "metrics": {name: float(value) for name, value in metrics.items()},
        "feed_states": gather_from_processes(dict(feed_state)),
        "leaves": {name: _describe(array) for name, array in arrays.items()},
    }
    return record | {"seal": _seal(record)}


def read_record(checkpoint: Path) -> dict[str, Any]:
    """The record of the checkpoint in a directory, less its seal.

    Raises:
        DamagedError: it is not there, or not what was written.
    """
    with damage():
        text = (checkpoint / "record" / "metadata").read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        if record.pop("seal") != _seal(record):
            raise DamagedError("its record is not what was written")
    return record


def write_record(checkpoint: Path, record: Mapping[str, Any]) -> None:
    """Put another record, given without its seal, in the place of the one that is there.

    Raises:
        OSError: it could not be written.
    """
    text = json.dumps({**record, "seal": _seal(record)})
    write_atomically(checkpoint / "record" / "metadata", text)


def named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a pytree by name, in the order of the tree.

    Raises:
        TypeError: a leaf is not an array.
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not hasattr(leaf, "dtype"):
            raise TypeError(
                f"leaf {name} of the state is {leaf!r}, a {type(leaf).__name__}; expected an "
                f"array. Make it one with jnp.asarray, or a static field of its dataclass."
            )
        named[name] = leaf
    return named


def require_same_leaves(path: Path, record: Mapping[str, Any], template: Any) -> None:
    """Refuse a checkpoint of another model.

    Raises:
        ValueError: lists every array that only one of the two has, or has in another shape or
            dtype.
    """
    saved = {
        name: jax.ShapeDtypeStruct(leaf["shape"], leaf["dtype"])
        for name, leaf in record["leaves"].items()
    }
    lines = list_differences(named_leaves(template), saved)
    if lines:
        raise ValueError(
            f"the checkpoint {path} holds other arrays than this run's state:\n"
            + "\n".join(lines)
            + "\nIt is whole, so it was written with another model or optimizer. Go back to that "
            "one, or use another directory."
        )


def require_recorded(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not bit for bit the recorded ones.

    Raises:
        DamagedError: names those that are missing or changed.
    """
    wrong = [
        name
        for name, described in record["leaves"].items()
        if name not in arrays or _describe(arrays[name]) != described
    ]
    if wrong:
        raise DamagedError(f"missing or changed since it was written: {', '.join(wrong)}")


def place(array: np.ndarray, like: Any) -> Any:
    """`array` on the devices of `like`, free to move where `like` is; NumPy where `like` is.

    A `jax.ShapeDtypeStruct` with a sharding stands for an array without taking its memory.
    """
    if isinstance(like, np.ndarray | np.generic):
        return array
    if isinstance(like, jax.Array) and not like.committed:
        return jnp.array(array)
    return jax.make_array_from_callback(array.shape, like.sharding, lambda index: array[index])


def own_feed_state(record: Mapping[str, Any]) -> dict[str, Any]:
    """The feed state of this process.

    Raises:
        ValueError: the checkpoint is of another number of processes, and their feed states differ.
    """
    feed_states: list[dict[str, Any]] = record["feed_states"]
    if len(feed_states) == jax.process_count():
        return feed_states[jax.process_index()]
    if all(feed_state == feed_states[0] for feed_state in feed_states):
        return feed_states[0]
    raise ValueError(
        f"the checkpoint of step {record['step']} was written by {len(feed_states)} processes, "
        f"each with a feed state of its own, and this run has {jax.process_count()}: no one can "
        f"say which examples are left. Start it with {len(feed_states)} processes."
    )


def _describe(array: np.ndarray) -> dict[str, Any]:
    # By way of bytes, because NumPy lends no buffer of a dtype that is not its own (bfloat16).
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return {"shape": [*array.shape], "dtype": array.dtype.name, "crc32": zlib.crc32(data)}


def _seal(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
