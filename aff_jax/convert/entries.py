"""One array of a checkpoint and where it is among the variables; how its layout becomes ours."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aff_jax.inspection import Path

__all__ = ["LAYOUTS", "UNREAD", "Entry"]

UNREAD = "unread"
"""Collection of what a checkpoint holds and its network never reads, by its name there."""


class Layout(NamedTuple):
    """How an array of the references becomes ours and back, and the shape that it has there."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]
    shape: Callable[[tuple[int, ...]], tuple[int, ...]]


def _spatial(array: np.ndarray) -> tuple[int, ...]:
    return tuple(range(array.ndim - 2))


LAYOUTS = {
    "same": Layout(lambda a: a, lambda a: a, lambda s: s),
    # (out, in), with ones behind it where the reference has a convolution; here (in, out).
    "dense": Layout(lambda a: a.T, lambda a: a.T, lambda s: s[::-1]),
    # (out, in, *size); here (*size, in, out).
    "convolution": Layout(
        lambda a: a.transpose(*range(2, a.ndim), 1, 0),
        lambda a: a.transpose(-1, -2, *_spatial(a)),
        lambda s: (s[-1], s[-2], *s[:-2]),
    ),
    # (in, out, *size), and Flax does not mirror the kernel; here (*size, in, out).
    "transposed convolution": Layout(
        lambda a: np.flip(a.transpose(*range(2, a.ndim), 0, 1), _spatial(a)),
        lambda a: np.flip(a, _spatial(a)).transpose(-2, -1, *_spatial(a)),
        lambda s: (*s[-2:], *s[:-2]),
    ),
}
"""Layouts of kernels by name."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array: its `name` and `shape` in the checkpoint, and where it is among the variables.

    `collection` is `UNREAD` for what the network never reads; `path` leads to the leaf, of
    `leaf_shape` and `dtype`. `layout` is one of `LAYOUTS`. `stand_in` names the entry that is
    written for an unread one that never came.
    """

    name: str
    shape: tuple[int, ...]
    collection: str
    path: Path
    dtype: Any
    leaf_shape: tuple[int, ...]
    layout: str = "same"
    stand_in: str = ""

    def fits(self, array: np.ndarray) -> bool:
        """Whether the array has this shape; a dense kernel may end in more or fewer ones."""
        if self.layout == "dense":
            rest = array.shape[2:]
            return array.shape[:2] == self.shape[:2] and all(size == 1 for size in rest)
        return array.shape == self.shape

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """The leaf, in our layout and dtype."""
        if self.layout == "dense":
            array = array.reshape(array.shape[:2])
        return LAYOUTS[self.layout].to_ours(array).astype(self.dtype)

    def to_theirs(self, leaf: Any) -> np.ndarray:
        """The array, in the checkpoint's layout and the leaf's dtype."""
        array = LAYOUTS[self.layout].to_theirs(np.asarray(leaf))
        # A copy: arrays of JAX can't be written to, which PyTorch's tensors must.
        return np.array(array, order="C").reshape(self.shape)
