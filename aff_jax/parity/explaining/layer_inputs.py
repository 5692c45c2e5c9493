"""Pair the inputs of a layer in both networks."""

from collections.abc import Sequence

import numpy as np

from aff_jax.parity.array_differences import is_allowed
from aff_jax.parity.explaining.evidence import Evidence
from aff_jax.parity.layouts import align, list_layouts

__all__ = ["align_inputs", "are_exchanged"]


def align_inputs(evidence: Evidence) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Pair inputs in order, PyTorch's in the layout of the others where the shapes allow it.

    Those of convolutions and the like are channels first, even if others would fit better.

    Args:
        evidence: What is known about the layer.

    Returns:
        Pairs of JAX's and PyTorch's array; None where PyTorch passes fewer arrays.
    """
    jax_inputs, torch_inputs = evidence.call.inputs, evidence.torch_call.inputs
    is_channels_first = type(evidence.torch_layer).__name__.endswith(("1d", "2d", "3d"))
    pairs: list[tuple[np.ndarray, np.ndarray | None]] = []
    for position, array in enumerate(jax_inputs):
        other = torch_inputs[position] if position < len(torch_inputs) else None
        options = [] if other is None else list(list_layouts(other, array.shape))
        first = [
            option for option in options if is_channels_first and option.layout == "channels first"
        ]
        aligned = None if other is None else align(other, array, first or options)
        if aligned is not None:
            other = aligned.array
        elif other is not None and is_channels_first and other.ndim == array.ndim:
            other = np.moveaxis(other, 1, -1)  # of another size
        pairs.append((array, other))
    return pairs


def are_exchanged(pairs: Sequence[tuple[np.ndarray, np.ndarray | None]], allowed: float) -> bool:
    """Return whether a layer has two different inputs of PyTorch in the other order.

    Args:
        pairs: The pairs of `align_inputs`.
        allowed: Relative difference that rounding explains.

    Returns:
        False also for layers with another number of inputs, or with inputs of different shapes.
    """
    if len(pairs) != 2:
        return False
    (first, torch_first), (second, torch_second) = pairs
    shapes = {None if array is None else array.shape for pair in pairs for array in pair}
    if len(shapes) != 1 or torch_first is None or torch_second is None:
        return False
    return (
        is_allowed(first, torch_second, allowed)
        and is_allowed(second, torch_first, allowed)
        and not is_allowed(first, torch_first, allowed)
    )
