"""Name the functions that two networks apply to earlier activations."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from aff_jax.parity.explaining.combinations import name_attention, name_combination
from aff_jax.parity.explaining.evidence import SharedArray
from aff_jax.parity.explaining.functions import (
    Function,
    leaky_relu,
    list_activations,
    list_elementwise,
    list_poolings,
    list_reductions,
    list_resizings,
    negative_slope,
    softmax_factor,
)
from aff_jax.parity.explaining.reordering import Fits

__all__ = ["RECENT", "SIMPLE", "find_combinations", "find_functions", "find_one_function"]

RECENT = 12
"""Number of earlier activations that may be the input of a function.

A function mostly reads one of the latest activations. Each one takes a pass of all functions.
"""

_MAX_TERMS = 4
"""Number of latest activations whose sums may be pooled or reduced; all pairs are tried."""

_LEAKY: list[Function] = [
    (f"leaky relu with slope {slope}", functools.partial(leaky_relu, slope=slope))
    for slope in (0.01, 0.1, 0.2, 0.3)
]
"""Leaky ReLUs with the usual slopes."""

_ORDINALS = ("first", "second", "third", "last")
"""Names of the parts of the channels."""

SIMPLE = ("the identity", "relu", "gelu with erf", "gelu with tanh", "silu")
"""Activations that are tried before a pooling or resizing, and after a sum or product."""


def find_functions(
    jax_array: np.ndarray,
    torch_array: np.ndarray,
    recent: Sequence[SharedArray],
    parameters: Sequence[SharedArray],
    fits: Fits,
) -> str:
    """Find the functions that the two networks apply to an earlier activation.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, in the same layout.
        recent: Activations that agree, the latest one first.
        parameters: PyTorch's parameters that belong to no layer.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    changes_shape = not recent or recent[0].jax_array.shape != jax_array.shape
    for earlier in [*recent[:RECENT], *(_list_sums(recent, parameters) if changes_shape else ())]:
        in_jax = _name_function(earlier.jax_array, jax_array, fits)
        in_torch = in_jax and _name_function(earlier.torch_array, torch_array, fits)
        if in_jax and in_torch and in_jax != in_torch:
            return f"JAX applies {in_jax} to {earlier.label}, and PyTorch {in_torch}."
    for parts in _list_parts(recent[:RECENT], jax_array.shape[-1:]):
        in_jax = _name_part([(p.label, p.jax_array) for p in parts], jax_array, fits)
        in_torch = in_jax and _name_part(
            [(p.label, p.torch_array) for p in parts], torch_array, fits
        )
        if in_jax and in_torch and in_jax != in_torch:
            return f"JAX applies {in_jax}, and PyTorch {in_torch}."
    return ""


def find_combinations(
    jax_array: np.ndarray, torch_array: np.ndarray, recent: Sequence[SharedArray], fits: Fits
) -> str:
    """Find what the two networks compute from several earlier activations.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, in the same layout.
        recent: Activations that agree, the latest one first.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    in_jax, in_torch = (
        name_combination(target, sources, fits) or name_attention(target, sources, fits)
        for target, sources in (
            (jax_array, [(earlier.label, earlier.jax_array) for earlier in recent]),
            (torch_array, [(earlier.label, earlier.torch_array) for earlier in recent]),
        )
    )
    if in_jax and in_torch and in_jax != in_torch:
        return f"JAX computes {in_jax}, and PyTorch {in_torch}."
    return ""


def find_one_function(
    jax_array: np.ndarray, torch_array: np.ndarray, recent: Sequence[SharedArray], fits: Fits
) -> str:
    """Find the function that one of the networks applies to an earlier activation.

    Args:
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, in the same layout.
        recent: Activations that agree, the latest one first.
        fits: Returns whether two arrays are equal.

    Returns:
        A sentence, or an empty string.
    """
    sides = (
        ("JAX", "PyTorch", jax_array, [(e.label, e.jax_array) for e in recent]),
        ("PyTorch", "JAX", torch_array, [(e.label, e.torch_array) for e in recent]),
    )
    for who, other, target, sources in sides:
        for label, source in sources[:RECENT]:
            name = _name_function(source, target, fits)
            if name and name != "the identity":
                found = f"{who} applies {name} to {label}."
                return f"{found} {other} does something else that was not found."
    for who, other, target, sources in sides:
        if name := name_combination(target, sources, fits):
            return f"{who} computes {name}. {other} does something else that was not found."
    return ""


def _list_parts(
    recent: Sequence[SharedArray], channels: tuple[int, ...]
) -> Iterator[list[SharedArray]]:
    """List the parts of activations that have a half, a third or a quarter of the channels."""
    for earlier in recent:
        for count, name in ((2, "half"), (3, "third"), (4, "quarter")):
            if earlier.jax_array.shape[-1:] == tuple(count * size for size in channels):
                arrays = (np.split(a, count, -1) for a in (earlier.jax_array, earlier.torch_array))
                yield [
                    SharedArray(f"the {ordinal} {name} of the channels of {earlier.label}", *pair)
                    for ordinal, *pair in zip(_ORDINALS[:count], *arrays, strict=True)
                ]


def _name_part(parts: Sequence[tuple[str, np.ndarray]], target: np.ndarray, fits: Fits) -> str:
    """Describe an array as a function of a part of an activation."""
    for label, part in parts:
        if name := _name_function(part, target, fits):
            return f"{name} to {label}"
    return ""


def _list_sums(
    recent: Sequence[SharedArray], parameters: Sequence[SharedArray]
) -> Iterator[SharedArray]:
    """List sums of two activations of one shape, one of them perhaps scaled by a parameter.

    A network may pool the end of a residual block, which is the output of no layer.
    """
    for one, other in itertools.combinations(recent[:_MAX_TERMS], 2):
        if one.jax_array.shape != other.jax_array.shape:
            continue
        yield SharedArray(
            f"the sum of {other.label} and {one.label}",
            other.jax_array + one.jax_array,
            other.torch_array + one.torch_array,
        )
        for factor in parameters:
            if factor.jax_array.shape not in ((), one.jax_array.shape[-1:]):
                continue
            for scaled, plain in ((one, other), (other, one)):
                yield SharedArray(
                    f"the sum of {plain.label} and {factor.label} times {scaled.label}",
                    plain.jax_array + factor.jax_array * scaled.jax_array,
                    plain.torch_array + factor.torch_array * scaled.torch_array,
                )


def _name_function(source: np.ndarray, target: np.ndarray, fits: Fits) -> str:
    """Name the function that maps one array to another, or return an empty string."""
    activations = list_activations()
    for name, function in activations if source.shape == target.shape else ():
        if fits(function(source), target):
            return name
    if source.shape == target.shape and (slope := negative_slope(source, target)) is not None:
        return f"a leaky relu with slope {slope:.4g}"
    if source.shape == target.shape and (factor := softmax_factor(source, target)) is not None:
        return f"softmax over the channels of {factor:.4g} times the values"
    functions: list[Function] = list_reductions(source.shape, target.shape)
    is_spatial = source.ndim == target.ndim and source.ndim in (3, 4, 5)
    ends = (source.shape[:1], source.shape[-1:]), (target.shape[:1], target.shape[-1:])
    if is_spatial and ends[0] == ends[1]:
        size, reached = source.shape[1:-1], target.shape[1:-1]
        functions += list_poolings(size, reached)
        functions += list_resizings(reached)
    if not functions:
        return ""
    # There are few reductions, so more functions are tried before them.
    simple = [f for f in activations if f[0] in SIMPLE]
    for before, prepare in simple if is_spatial else [*list_elementwise(), *_LEAKY]:
        prepared = prepare(source)
        for name, function in functions:
            if fits(function(prepared), target):
                return name if before == "the identity" else f"{before} and {name}"
    return ""
