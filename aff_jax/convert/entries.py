"""Arrays of a checkpoint, their paths among the variables, and their memory layouts."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aff_jax.inspection import ModulePath

__all__ = ["KERNEL_LAYOUTS", "UNREAD", "Entry", "Layout"]

UNREAD = "unread"
"""Collection of the arrays of a checkpoint that its network never reads."""


class Layout(NamedTuple):
    """Memory layout of an array in PyTorch and MXNet.

    Attributes:
        to_flax: Converts an array of the framework to Flax's layout.
        to_framework: Inverse of `to_flax`.
        framework_shape: Maps a shape in Flax's layout to the shape in the framework.
    """

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_framework: Callable[[np.ndarray], np.ndarray]
    framework_shape: Callable[[tuple[int, ...]], tuple[int, ...]]


def _spatial_axes(array: np.ndarray) -> tuple[int, ...]:
    return tuple(range(array.ndim - 2))


KERNEL_LAYOUTS = {
    "same": Layout(lambda a: a, lambda a: a, lambda s: s),
    # Framework (out, in), followed by axes of size 1 for a convolution; Flax (in, out).
    "dense": Layout(lambda a: a.T, lambda a: a.T, lambda s: s[::-1]),
    # Framework (out, in, *size); Flax (*size, in, out).
    "convolution": Layout(
        lambda a: a.transpose(*range(2, a.ndim), 1, 0),
        lambda a: a.transpose(-1, -2, *_spatial_axes(a)),
        lambda s: (s[-1], s[-2], *s[:-2]),
    ),
    # Framework (in, out, *size); Flax (*size, in, out). Flax does not flip the kernel.
    "transposed convolution": Layout(
        lambda a: np.flip(a.transpose(*range(2, a.ndim), 0, 1), _spatial_axes(a)),
        lambda a: np.flip(a, _spatial_axes(a)).transpose(-2, -1, *_spatial_axes(a)),
        lambda s: (*s[-2:], *s[:-2]),
    ),
}
"""Layouts of kernels by name."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a checkpoint and the variable that it belongs to.

    Attributes:
        name: Name in the checkpoint.
        shape: Shape in the checkpoint.
        collection: Collection of the variable. `UNREAD` if the network never reads the array.
        path: Path of the variable in the collection.
        dtype: Dtype of the variable.
        leaf_shape: Shape of the variable.
        layout: Key of `KERNEL_LAYOUTS`. The axes of the array may be flattened, as for
            `nn.DenseGeneral`.
        index: Position of the array in a variable that stacks the arrays of several layers, as
            under `nn.scan`. The empty index selects the whole variable.
        fallback: For an unread entry, the name of the entry whose array is written instead if the
            variables don't have this one.
    """

    name: str
    shape: tuple[int, ...]
    collection: str
    path: ModulePath
    dtype: Any
    leaf_shape: tuple[int, ...]
    layout: str = "same"
    index: tuple[int | slice, ...] = ()
    fallback: str = ""

    @property
    def part_shape(self) -> tuple[int, ...]:
        """Return the shape of the part of the variable that the array belongs to."""
        sizes = zip(self.leaf_shape, self.index, strict=False)
        kept = tuple(size for size, at in sizes if isinstance(at, slice))
        return kept + self.leaf_shape[len(self.index) :]

    def accepts(self, array: np.ndarray) -> bool:
        """Return whether an array has the shape of the entry.

        Args:
            array: Array of the checkpoint.

        Returns:
            True if the shapes are equal. The kernel of a dense layer may also have the shape of a
            1x1 convolution, `(out, in, 1, ..., 1)`, with any number of axes of size one.
        """
        if self.layout == "dense":
            rest = array.shape[2:]
            return array.shape[:2] == self.shape[:2] and all(size == 1 for size in rest)
        return array.shape == self.shape

    def to_leaf(self, array: np.ndarray) -> np.ndarray:
        """Convert an array of the checkpoint to the layout and dtype of the variable.

        Args:
            array: Array that `accepts` returns True for.

        Returns:
            Array of shape `part_shape` and dtype `dtype`.
        """
        if self.layout == "dense":
            array = array.reshape(array.shape[:2])
        converted = KERNEL_LAYOUTS[self.layout].to_flax(array)
        return converted.astype(self.dtype).reshape(self.part_shape)

    def to_array(self, leaf: Any) -> np.ndarray:
        """Convert a variable to the layout of the checkpoint.

        Args:
            leaf: The variable, an array of shape `leaf_shape`.

        Returns:
            Writable array of shape `shape` and of the dtype of `leaf`.
        """
        part = np.asarray(leaf)[self.index]
        if self.layout == "dense":
            part = part.reshape(self.shape[1], self.shape[0])
        array = KERNEL_LAYOUTS[self.layout].to_framework(part)
        # Copy: NumPy views of JAX arrays are read-only, and PyTorch needs writable memory.
        return np.array(array, order="C").reshape(self.shape)
