"""Find out how the weights of a layer differ from the weights of its PyTorch counterpart."""

import itertools
from collections.abc import Mapping

import numpy as np

from aff_jax.parity.array_differences import best_factor, largest_difference
from aff_jax.parity.explaining.reordering import find_axes

__all__ = ["Weights", "explain_weights"]

_FEW = 0.05
"""Share of differing values below which they are counted instead of called all different."""

_INITIAL = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
"""Values of variables that nobody has trained or loaded."""

Weights = Mapping[str, np.ndarray]
"""Variables of a layer by the names of their leaves, such as "kernel"."""


def explain_weights(
    jax_weights: Weights, torch_weights: Weights, other_weights: Mapping[str, Weights]
) -> str:
    """Explain how the weights of a layer differ from PyTorch's.

    Args:
        jax_weights: Variables of the layer.
        torch_weights: PyTorch's weights of the layer, converted.
        other_weights: PyTorch's weights of the other layers, converted, by name.

    Returns:
        Sentences, or an empty string if the weights are equal.
    """
    different = {
        leaf: (value, torch_weights[leaf])
        for leaf, value in jax_weights.items()
        if leaf in torch_weights and not _is_same(value, torch_weights[leaf])
    }
    if not different:
        return ""
    for (first, a), (second, b) in itertools.combinations(different.items(), 2):
        if _is_same(a[0], b[1]) and _is_same(b[0], a[1]):
            return f"`{first}` and `{second}` are swapped."
    for name, weights in other_weights.items():
        # Constants, such as the zeros of an untrained bias, are found in many layers.
        varied = any(np.ptp(jax_weights[leaf]) > 0 for leaf in different)
        same = (
            leaf in weights and _is_same(jax_weights[leaf], weights[leaf]) for leaf in different
        )
        if varied and all(same):
            return f"Its weights ({', '.join(different)}) are the weights of PyTorch's `{name}`."
    return " ".join(_explain_leaf(leaf, *pair) for leaf, pair in different.items())


def _explain_leaf(leaf: str, jax_array: np.ndarray, torch_array: np.ndarray) -> str:
    """Explain how one variable differs."""
    if jax_array.shape != torch_array.shape:
        return f"`{leaf}` has the shape {jax_array.shape}, PyTorch's is {torch_array.shape}."
    if leaf in _INITIAL and np.all(jax_array == _INITIAL[leaf]):
        return f"`{leaf}` is {_INITIAL[leaf]:g} everywhere, as after initialization."
    if _is_same(np.sort(jax_array, axis=None), np.sort(torch_array, axis=None)):
        return f"`{leaf}` has PyTorch's values {_find_order(jax_array, torch_array)}."
    unequal = ~np.isclose(
        jax_array, torch_array, rtol=1e-6, atol=1e-6 * float(np.max(np.abs(torch_array)))
    )
    count, size = int(np.sum(unequal)), jax_array.size
    if count <= max(1, _FEW * size):
        index = tuple(int(i) for i in np.argwhere(unequal)[0])
        return (
            f"{count} of the {size} values of `{leaf}` {'differs' if count == 1 else 'differ'} "
            f"from PyTorch's; the first is {jax_array[index]:.6g} instead of "
            f"{torch_array[index]:.6g}, at {index}."
        )
    factor = best_factor(jax_array, torch_array)
    if factor and _is_same(factor * jax_array, torch_array):
        return f"PyTorch's `{leaf}` is {factor:.6g} times JAX's."
    worst = largest_difference(jax_array, torch_array)
    return f"`{leaf}` differs from PyTorch's in {count} of {size} values, by up to {worst:.2g}."


def _find_order(jax_array: np.ndarray, torch_array: np.ndarray) -> str:
    """Say in which order an array has the values of another one."""
    found = find_axes(jax_array, torch_array, _is_same)
    if found is not None:
        return _describe_order(*found)
    stored = [torch_array.transpose()]
    if torch_array.ndim > 1:
        # Kernels as PyTorch stores them: (out, in, *size), or (out, in).
        stored.append(torch_array.transpose(-1, -2, *range(torch_array.ndim - 2)))
    if any(_is_same(jax_array.ravel(), array.ravel()) for array in stored):
        return "reshaped instead of transposed"
    for axis in range(jax_array.ndim):
        lined = np.moveaxis(jax_array, axis, 0).reshape(jax_array.shape[axis], -1)
        other = np.moveaxis(torch_array, axis, 0).reshape(torch_array.shape[axis], -1)
        if _is_same(lined[np.lexsort(lined.T)], other[np.lexsort(other.T)]):
            return f"in another order along axis {axis}"
    return "in another order"


def _describe_order(order: tuple[int, ...], flipped: tuple[int, ...]) -> str:
    """Write what `find_axes` found."""
    parts = []
    transposed = [axis for axis, source in enumerate(order) if axis != source]
    if len(transposed) == 2:
        parts.append(f"with axes {transposed[0]} and {transposed[1]} swapped")
    elif transposed:
        parts.append(f"with the axes in another order: transpose them by {order}")
    if flipped:
        listed = ", ".join(map(str, flipped))
        parts.append(f"flipped along {'axis' if len(flipped) == 1 else 'axes'} {listed}")
    return " and ".join(parts)


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether arrays are equal up to the rounding of float32."""
    if a.shape != b.shape:
        return False
    largest = float(np.max(np.abs(b), initial=0.0))
    return largest_difference(a, b) <= 1e-6 * largest
