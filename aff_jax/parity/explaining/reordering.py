"""Find out in which order an array has the values of another one."""

import itertools
from collections.abc import Callable

import numpy as np

__all__ = ["Fits", "find_axes", "find_order", "find_padding", "find_shift"]

Fits = Callable[[np.ndarray, np.ndarray], bool]
"""Returns whether two arrays are equal up to rounding."""


def find_axes(
    jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Find the order and the direction of axes in which one array is another one.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network.
        fits: Returns whether two arrays are equal.

    Returns:
        The order for `np.transpose` and then the axes for `np.flip`, or None.
    """
    axes = tuple(range(jax_array.ndim))
    flips = [some for n in range(len(axes) + 1) for some in itertools.combinations(axes, n)]
    orders = list(itertools.permutations(axes)) if jax_array.ndim < 6 else [axes]
    for flipped, order in itertools.product(flips, orders):
        if tuple(jax_array.shape[axis] for axis in order) != torch_array.shape:
            continue
        if (flipped or order != axes) and fits(
            np.flip(jax_array.transpose(order), flipped), torch_array
        ):
            return order, flipped
    return None


def find_order(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    """Find the same values in another order.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    if jax_array.size != torch_array.size or not fits(
        np.sort(jax_array, axis=None), np.sort(torch_array, axis=None)
    ):
        return ""
    found = (search(jax_array, torch_array, fits) for search in _SEARCHES)
    return next(filter(None, found), "PyTorch has the same values in another order.")


def _find_transposition(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    found = find_axes(jax_array, torch_array, fits)
    if found is None:
        return ""
    order, flipped = found
    listed = " and ".join(str(axis) for axis, source in enumerate(order) if axis != source)
    if not flipped:
        return f"PyTorch has the same values with axes {listed} in another order."
    along = f"flipped along axis {' and '.join(map(str, flipped))}"
    if not listed:
        return f"PyTorch has the same values, {along}."
    return f"PyTorch has the same values with axes {listed} in another order, {along}."


def _find_other_shape(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    del fits  # the sorted values are equal
    if jax_array.shape == torch_array.shape:
        return ""
    return "PyTorch has the same values in another shape and order."


def _find_rotation(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    for axis, size in enumerate(jax_array.shape):
        for shift in {size // 2, *range(1, min(size, 65))}:
            if 0 < shift < size and fits(np.roll(jax_array, shift, axis), torch_array):
                return (
                    f"PyTorch has the same values, rotated along axis {axis} by {shift}. Probably "
                    f"two arrays are concatenated in another order."
                )
    return ""


def _find_split_axis(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    for axis, size in list(enumerate(jax_array.shape))[1:]:
        for rows in (n for n in range(2, size) if size % n == 0):
            columns = size // rows
            split = (*jax_array.shape[:axis], rows, columns, *jax_array.shape[axis + 1 :])
            swapped = jax_array.reshape(split).swapaxes(axis, axis + 1).reshape(jax_array.shape)
            if not fits(swapped, torch_array):
                continue
            if jax_array.ndim > 2:
                return (
                    f"PyTorch has the same values with axis {axis} in another order: split it into "
                    f"({rows}, {columns}) and swap the two, as a channel shuffle does."
                )
            return (
                f"PyTorch has the same values, flattened in another order: axis {axis} of size "
                f"{size} is ({rows}, {columns}) in JAX and ({columns}, {rows}) in PyTorch. PyTorch "
                f"flattens (channels, height, width); transpose to that before you flatten."
            )
    return ""


def _find_permutation(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    for axis in range(1, jax_array.ndim):
        sources = _find_slices(jax_array, torch_array, axis, fits)
        if sources is not None:
            listed = ", ".join(map(str, sources[:16])) + (", ..." if len(sources) > 16 else "")
            return (
                f"PyTorch has the same values with axis {axis} in another order: it has JAX's "
                f"positions {listed}. Probably arrays are concatenated, split or shuffled in "
                f"another order."
            )
    return ""


def _find_slices(
    jax_array: np.ndarray, torch_array: np.ndarray, axis: int, fits: Fits
) -> list[int] | None:
    """Return the positions along an axis of one array that make up the other one, or None."""
    slices, targets = (
        np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (jax_array, torch_array)
    )
    # Sorted by their sums, equal slices come in the same order.
    order, wanted = np.argsort(slices.sum(1)), np.argsort(targets.sum(1))
    if not fits(slices[order], targets[wanted]):
        return None
    return [int(place) for place in order[np.argsort(wanted)]]


_SEARCHES = (
    _find_transposition,
    _find_other_shape,
    _find_rotation,
    _find_split_axis,
    _find_permutation,
)
"""Searches for an order, the most specific first. Each returns a sentence or an empty string.

Those after `_find_other_shape` take arrays of equal shapes.
"""


def find_padding(
    jax_array: np.ndarray, torch_array: np.ndarray
) -> tuple[tuple[int, int], ...] | None:
    """Find zeros that surround an array.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, channels last or first.

    Returns:
        The number of zeros before and after each axis of `jax_array`, or None if `torch_array`
        is not `jax_array` with zeros around it.
    """
    if torch_array.ndim != jax_array.ndim or torch_array.ndim < 3:
        return None
    for padded in (torch_array, np.moveaxis(torch_array, 1, -1)):
        places, filled = np.argwhere(padded != 0), np.argwhere(jax_array != 0)
        if not len(places) or not len(filled):
            continue
        before = places.min(0) - filled.min(0)
        after = np.array(padded.shape) - jax_array.shape - before
        if (before < 0).any() or (after < 0).any():
            continue
        widths = tuple(zip(before.tolist(), after.tolist(), strict=True))
        if np.allclose(
            np.pad(jax_array, widths), padded, rtol=1e-4, atol=1e-6 * np.max(np.abs(jax_array))
        ):
            return widths
    return None


def find_shift(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    """Find a shift of one or two pixels.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    if jax_array.shape != torch_array.shape or jax_array.ndim < 3:
        return ""
    spatial = tuple(range(1, jax_array.ndim - 1))
    if any(jax_array.shape[axis] <= 5 for axis in spatial):
        return ""
    inner = (slice(2, -2),) * len(spatial)
    for shift in itertools.product((-2, -1, 0, 1, 2), repeat=len(spatial)):
        if any(shift):
            rolled = np.roll(jax_array, shift, spatial)
            if fits(rolled[:, *inner], torch_array[:, *inner]):
                return (
                    f"PyTorch's values are JAX's, shifted by {shift} pixels. Probably the padding "
                    f"differs: 'SAME' pads less at the start than at the end."
                )
    return ""
