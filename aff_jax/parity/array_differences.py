"""Numbers that say how two arrays differ."""

import numpy as np

__all__ = ["best_factor", "is_allowed", "largest_difference"]


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest absolute difference of two arrays of the same shape.

    Args:
        a: The first array.
        b: The second array.

    Returns:
        The difference, computed in float64 or complex128. Equal infinities do not differ, and NaN
        differs from everything. It is 0 for empty arrays.
    """
    wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.asarray(a, wide) - np.asarray(b, wide))
    difference = np.where(np.asarray(a == b), 0.0, difference)
    return float(np.max(difference, initial=0.0))


def best_factor(a: np.ndarray, b: np.ndarray) -> float:
    """Return the factor of an array that brings it nearest to another one, by least squares.

    Args:
        a: The array.
        b: The other array, of the same shape.

    Returns:
        The factor ``<a, b> / <a, a>``. It is 0 if `a` is.
    """
    squares = float(np.vdot(a, a))
    return float(np.vdot(a, b)) / squares if squares else 0.0


def is_allowed(jax_array: np.ndarray, torch_array: np.ndarray, allowed: float) -> bool:
    """Return whether the difference of two arrays is allowed.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, in the same layout.
        allowed: Allowed difference, relative to the largest value of `torch_array`.

    Returns:
        True if no value differs by more.
    """
    largest = float(np.max(np.abs(torch_array), initial=0.0)) or 1.0
    return largest_difference(jax_array, torch_array) <= allowed * largest
