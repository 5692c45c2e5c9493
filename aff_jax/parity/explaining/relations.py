"""Find the relation between two arrays that should be equal and are not.

The candidates are the usual mistakes of a port: a factor, an offset, another order of the values,
another activation or pooling, and a sum or product that is missing on one side.
"""

from collections.abc import Callable, Sequence

import numpy as np

from aff_jax.parity.array_differences import best_factor, largest_difference
from aff_jax.parity.explaining.combinations import broadcasts
from aff_jax.parity.explaining.evidence import SharedArray
from aff_jax.parity.explaining.function_causes import (
    RECENT,
    SIMPLE,
    find_combinations,
    find_functions,
    find_one_function,
)
from aff_jax.parity.explaining.functions import list_activations
from aff_jax.parity.explaining.reordering import Fits, find_order, find_shift

__all__ = ["RELATIONS", "find_relation"]

_OPERANDS = 40
"""Number of earlier activations that may be a missing term or factor.

More than `RECENT`, because a long skip connection adds an activation from far above.
"""

_VALUES_OF_SUM = 2048
"""Number of values in which a sum or product is looked for, chosen at random."""

RELATIONS = (
    "a constant factor, an offset or a scale for each channel, another order of the values, "
    "another activation, pooling or resizing, a shift, and a missing sum or product"
)
"""Relations that `find_relation` looks for."""


def find_relation(
    jax_array: np.ndarray, torch_array: np.ndarray, earlier: Sequence[SharedArray], allowed: float
) -> str:
    """Find how an array of the PyTorch network follows from JAX's.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, in the same layout.
        earlier: Activations that agree, the latest one last.
        allowed: Relative difference that rounding explains.

    Returns:
        A sentence, or an empty string if no relation was found.
    """
    if np.iscomplexobj(jax_array) or np.iscomplexobj(torch_array):
        is_conjugate = largest_difference(jax_array.conj(), torch_array) <= allowed * np.max(
            np.abs(torch_array)
        )
        return "PyTorch's values are the complex conjugates." if is_conjugate else ""
    wide = [
        SharedArray(e.label, *_wide(e.jax_array, e.torch_array), e.is_parameter)
        for e in earlier[::-1]
    ]
    recent = [e for e in wide if not e.is_parameter]
    parameters = [e for e in wide if e.is_parameter]
    operands = [*recent[:_OPERANDS], *(_expand(e, jax_array.ndim) for e in parameters)]
    jax_array, torch_array = _wide(jax_array, torch_array)
    # The limit is at most 1e-3: another activation may differ from the right one by a few percent.
    limit = min(max(10 * allowed, 1e-12), 1e-3)
    if jax_array.shape == torch_array.shape:
        # A relation must remove most of the difference.
        largest = float(np.max(np.abs(torch_array), initial=0.0)) or 1.0
        limit = min(limit, largest_difference(jax_array, torch_array) / largest / 4)

    def fits(a: np.ndarray, b: np.ndarray) -> bool:
        """Return whether two arrays are equal up to `limit`."""
        if a.shape != b.shape:
            return False
        return largest_difference(a, b) <= limit * float(np.max(np.abs(b), initial=0.0))

    return (
        _find_factor(jax_array, torch_array, fits)
        or find_order(jax_array, torch_array, fits)
        or _find_sum(jax_array, torch_array, operands, fits)
        or find_functions(jax_array, torch_array, recent, parameters, fits)
        or find_combinations(jax_array, torch_array, recent, fits)
        or _find_line(jax_array, torch_array, fits)
        or find_shift(jax_array, torch_array, fits)
        or find_one_function(jax_array, torch_array, recent, fits)
    )


def _find_factor(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    """Find a factor or an offset of the whole array."""
    if jax_array.shape != torch_array.shape or not jax_array.size:
        return ""
    factor = best_factor(jax_array, torch_array)
    if factor and fits(factor * jax_array, torch_array):
        inverse = f", and JAX's are {1 / factor:.4g} times PyTorch's"
        return f"PyTorch's values are {factor:.4g} times JAX's{inverse if factor < 1 else ''}."
    difference = torch_array - jax_array
    offset = float(np.mean(difference))
    if fits(jax_array + offset, torch_array):
        return f"PyTorch adds {offset:.4g} to every value."
    return ""


def _find_line(jax_array: np.ndarray, torch_array: np.ndarray, fits: Fits) -> str:
    """Find a factor and an offset for each channel."""
    if jax_array.shape != torch_array.shape or jax_array.ndim < 2:
        return ""
    rows, others = (
        jax_array.reshape(-1, jax_array.shape[-1]),
        torch_array.reshape(-1, jax_array.shape[-1]),
    )
    # Two rows determine a line, and at least two more test it.
    if len(rows) < 4:
        return ""
    if fits(rows + np.mean(others - rows, axis=0), others):
        return (
            "The values differ by an offset for each channel. Probably one side adds a bias that "
            "the other lacks."
        )
    centered, target = rows - rows.mean(0), others - others.mean(0)
    variance = np.sum(centered**2, axis=0)
    scale = np.sum(centered * target, axis=0) / np.where(variance == 0, 1, variance)
    if not fits(centered * scale + others.mean(0), others):
        return ""
    if fits(rows * scale, others):
        return (
            "PyTorch's channels are multiples of JAX's, each with its own factor. Probably a scale "
            "(of a norm, or of the inputs) is missing on one side."
        )
    return (
        "PyTorch's channels follow from JAX's by a scale and an offset for each channel. Probably "
        "one side has a normalization that the other lacks, or other statistics."
    )


def _find_sum(
    jax_array: np.ndarray, torch_array: np.ndarray, known: Sequence[SharedArray], fits: Fits
) -> str:
    """Find a term or a factor that one side lacks."""
    if jax_array.shape != torch_array.shape:
        return ""
    # These relations hold for each value alone, so a sample of the values shows them.
    rng = np.random.default_rng(0)
    places = np.sort(rng.permutation(jax_array.size)[:_VALUES_OF_SUM])
    operands: list[tuple[str, tuple[np.ndarray, np.ndarray]]] = []
    simple = [f for f in list_activations() if f[0] in SIMPLE]
    for operand in known:
        if operand.jax_array.ndim == jax_array.ndim and broadcasts(
            operand.jax_array.shape, jax_array.shape
        ):
            sample = [
                np.broadcast_to(array, jax_array.shape).ravel()[places]
                for array in (operand.jax_array, operand.torch_array)
            ]
            for name, function in simple:
                label = operand.label if function is simple[0][1] else f"{name} of {operand.label}"
                operands.append((label, (function(sample[0]), function(sample[1]))))
    sampled = (jax_array.ravel()[places], torch_array.ravel()[places])
    for side, who, other in ((1, "PyTorch", "JAX"), (0, "JAX", "PyTorch")):
        more, less = sampled[side], sampled[1 - side]
        arrays = [(label, pair[side]) for label, pair in operands]
        for name, function in simple:
            if found := _find_operand(more, less, arrays, fits, function):
                behind = "" if name == simple[0][0] else f" before {name}"
                return f"{who} {found}{behind}, and {other} does not."
    return ""


def _find_operand(
    more: np.ndarray,
    less: np.ndarray,
    operands: Sequence[tuple[str, np.ndarray]],
    fits: Fits,
    function: Callable[[np.ndarray], np.ndarray],
) -> str:
    """Find what has to be added to, or multiplied with, one array to get the other one."""
    for label, array in operands:
        if fits(function(less + array), more):
            return f"adds {label}"
        if fits(function(less * array), more):
            return f"multiplies by {label}"
    for first, base in operands[: RECENT * len(SIMPLE)]:
        if fits(function(base), less):
            for label, array in operands:
                if fits(function(base + array), more):
                    return f"adds {label} to {first}"
    return ""


def _expand(earlier: SharedArray, axes: int) -> SharedArray:
    """Add axes of size 1 in front, as in broadcasting."""
    shape = (1,) * (axes - earlier.jax_array.ndim) + earlier.jax_array.shape
    return earlier._replace(
        jax_array=earlier.jax_array.reshape(shape), torch_array=earlier.torch_array.reshape(shape)
    )


def _wide(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert two arrays to float64."""
    return np.asarray(a, np.float64), np.asarray(b, np.float64)
