"""Find out in which order an array has the values of another one."""

import itertools
from collections.abc import Callable

import numpy as np

__all__ = ["Fits", "find_axes", "find_order", "find_padding", "find_shift"]

Fits = Callable[[np.ndarray, np.ndarray], bool]
"""Returns whether two arrays are equal up to rounding."""


def find_axes(
    ours: np.ndarray, theirs: np.ndarray, fits: Fits
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Find the order and the direction of axes in which one array is another one.

    Args:
        ours: The array of the linen network.
        theirs: The array of the PyTorch network.
        fits: Returns whether two arrays are equal.

    Returns:
        The order for `np.transpose` and then the axes for `np.flip`, or None.
    """
    axes = tuple(range(ours.ndim))
    flips = [some for n in range(len(axes) + 1) for some in itertools.combinations(axes, n)]
    orders = list(itertools.permutations(axes)) if ours.ndim < 6 else [axes]
    for flipped, order in itertools.product(flips, orders):
        if tuple(ours.shape[axis] for axis in order) != theirs.shape:
            continue
        if (flipped or order != axes) and fits(np.flip(ours.transpose(order), flipped), theirs):
            return order, flipped
    return None


def find_order(ours: np.ndarray, theirs: np.ndarray, fits: Fits) -> str:
    """Find the same values in another order.

    Args:
        ours: The array of the linen network.
        theirs: The array of the PyTorch network.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    if ours.size != theirs.size or not fits(np.sort(ours, axis=None), np.sort(theirs, axis=None)):
        return ""
    axes = range(ours.ndim)
    found = find_axes(ours, theirs, fits)
    if found is not None:
        order, flipped = found
        listed = " and ".join(str(axis) for axis, source in enumerate(order) if axis != source)
        if not flipped:
            return f"PyTorch has the same values with axes {listed} in another order."
        along = f"flipped along axis {' and '.join(map(str, flipped))}"
        if not listed:
            return f"PyTorch has the same values, {along}."
        return f"PyTorch has the same values with axes {listed} in another order, {along}."
    if ours.shape != theirs.shape:
        return "PyTorch has the same values in another shape and order."
    for axis in axes:
        half = ours.shape[axis] // 2
        for shift in {half, *range(1, min(ours.shape[axis], 65))}:
            if 0 < shift < ours.shape[axis] and fits(np.roll(ours, shift, axis), theirs):
                return (
                    f"PyTorch has the same values, rotated along axis {axis} by {shift}. Probably "
                    f"two arrays are concatenated in another order."
                )
    for axis in axes[1:]:
        size = ours.shape[axis]
        for rows in (n for n in range(2, size) if size % n == 0):
            split = (*ours.shape[:axis], rows, size // rows, *ours.shape[axis + 1 :])
            swapped = ours.reshape(split).swapaxes(axis, axis + 1).reshape(ours.shape)
            if fits(swapped, theirs):
                if ours.ndim > 2:
                    return (
                        f"PyTorch has the same values with axis {axis} in another order: split it "
                        f"into ({rows}, {size // rows}) and swap the two, as a channel shuffle "
                        f"does."
                    )
                return (
                    f"PyTorch has the same values, flattened in another order: axis {axis} of "
                    f"size {size} is ({rows}, {size // rows}) here and ({size // rows}, {rows}) in "
                    f"PyTorch. PyTorch flattens (channels, height, width); transpose to that "
                    f"before you flatten."
                )
    return "PyTorch has the same values in another order."


def find_padding(ours: np.ndarray, theirs: np.ndarray) -> tuple[tuple[int, int], ...] | None:
    """Find zeros that surround an array.

    Args:
        ours: The array of the linen network.
        theirs: The array of the PyTorch network, channels last or first.

    Returns:
        The number of zeros before and after each axis of `ours`, or None if `theirs` is not `ours`
        with zeros around it.
    """
    if theirs.ndim != ours.ndim or theirs.ndim < 3:
        return None
    for padded in (theirs, np.moveaxis(theirs, 1, -1)):
        places, filled = np.argwhere(padded != 0), np.argwhere(ours != 0)
        if not len(places) or not len(filled):
            continue
        before = places.min(0) - filled.min(0)
        after = np.array(padded.shape) - ours.shape - before
        if (before < 0).any() or (after < 0).any():
            continue
        widths = tuple(zip(before.tolist(), after.tolist(), strict=True))
        if np.allclose(np.pad(ours, widths), padded, rtol=1e-4, atol=1e-6 * np.max(np.abs(ours))):
            return widths
    return None


def find_shift(ours: np.ndarray, theirs: np.ndarray, fits: Fits) -> str:
    """Find a shift of one or two pixels.

    Args:
        ours: The array of the linen network.
        theirs: The array of the PyTorch network.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    if ours.shape != theirs.shape or ours.ndim < 3:
        return ""
    spatial = tuple(range(1, ours.ndim - 1))
    if any(ours.shape[axis] <= 5 for axis in spatial):
        return ""
    inner = (slice(2, -2),) * len(spatial)
    for shift in itertools.product((-2, -1, 0, 1, 2), repeat=len(spatial)):
        if any(shift):
            rolled = np.roll(ours, shift, spatial)
            if fits(rolled[:, *inner], theirs[:, *inner]):
                return (
                    f"PyTorch's values are these, shifted by {shift} pixels. Probably the padding "
                    f"differs: 'SAME' pads less at the start than at the end."
                )
    return ""
