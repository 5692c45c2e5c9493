"""Find how the axes of two arrays with the same content correspond."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aff_jax.parity.array_differences import largest_difference

__all__ = ["Aligned", "align", "channels_first", "list_layouts"]


class Aligned(NamedTuple):
    """An array of PyTorch in the layout of the other one.

    Attributes:
        array: The array.
        layout: Layout that it had: "same", "channels first", "channels last" or "sequence first",
            followed by ", reshaped" or ", repeated" where that was needed.
    """

    array: np.ndarray
    layout: str


def channels_first(array: np.ndarray) -> np.ndarray:
    """Transpose an array from channels last to channels first.

    Args:
        array: Array `(batch, *spatial, channels)`.

    Returns:
        View `(batch, channels, *spatial)`. Arrays with fewer than three axes are returned as they
        are.
    """
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def list_layouts(torch_array: np.ndarray, shape: tuple[int, ...]) -> Iterator[Aligned]:
    """List the ways in which an array of PyTorch can have the layout of another array.

    Args:
        torch_array: The array of PyTorch.
        shape: Shape of the other array.

    Yields:
        The array in the shape `shape`, the most common layouts first.
    """
    transposed = [Aligned(torch_array, "same")]
    if torch_array.ndim > 2:
        transposed += [
            Aligned(np.moveaxis(torch_array, 1, -1), "channels first"),
            Aligned(np.swapaxes(torch_array, 0, 1), "sequence first"),
            Aligned(np.moveaxis(torch_array, -1, 1), "channels last"),
        ]
    whole = [candidate for candidate in transposed if candidate.array.shape == shape]
    yield from whole
    for array, layout in () if whole else transposed:
        if array.size == np.prod(shape) and array.size:
            # Axes are merged or split, and the batch or the channels stay.
            if array.shape[:1] == shape[:1] or array.shape[-1:] == shape[-1:]:
                yield Aligned(array.reshape(shape), f"{layout}, reshaped")
        elif shape and array.shape[1:] == shape[1:] and array.shape[0] % (shape[0] or 1) == 0:
            # Some modules repeat a batch of one for their batch norm.
            copies = array.reshape(-1, *shape)
            if len(copies) > 1 and all(np.array_equal(copies[0], c) for c in copies[1:]):
                yield Aligned(copies[0], f"{layout}, repeated")


def align(
    torch_array: np.ndarray, jax_array: np.ndarray, candidates: Sequence[Aligned] | None = None
) -> Aligned | None:
    """Bring an array of PyTorch to the layout of another array.

    If the shapes allow several layouts, the layout with the smallest difference is chosen.

    Args:
        torch_array: The array of PyTorch.
        jax_array: The other array.
        candidates: Layouts to choose from. None takes all layouts of `list_layouts`.

    Returns:
        The array in the shape of `jax_array`, and its layout, or None if no layout has this shape.
    """
    if candidates is None:
        candidates = list(list_layouts(torch_array, jax_array.shape))
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    # NaN is larger than every difference here, so that NaN on one side never fits.
    return min(
        candidates, key=lambda c: np.nan_to_num(largest_difference(c.array, jax_array), nan=1e308)
    )
