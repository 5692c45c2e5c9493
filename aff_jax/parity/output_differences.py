"""Measure how much the outputs of two networks differ."""

import itertools
from collections.abc import Collection, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from aff_jax.parity.array_differences import largest_difference
from aff_jax.parity.layouts import Aligned, align, list_layouts
from aff_jax.parity.pairing import Match, pair_outputs
from aff_jax.parity.rows import ONLY_JAX, ONLY_TORCH, Output, Pair, Row

__all__ = ["MULTIPLE_OF_NOISE", "ULPS_OF_LARGEST", "compare_outputs"]

MULTIPLE_OF_NOISE = 50
"""Allowed difference of two frameworks, as a multiple of a network's own rounding noise.

Each network runs again with its numbers changed by one unit in the last place, which shows how it
amplifies rounding errors. The multiple allows for sums of thousands of products: the frameworks add
them in different orders, so their results are several units apart. The number was chosen by hand.
`_LOW_PRECISION_MULTIPLE` is the one for narrower dtypes.
"""

ULPS_OF_LARGEST = 64
"""Allowed difference in units in the last place of the largest value of a layer.

So much is allowed even where the measured noise is zero. The number was chosen by hand.
"""

_LOW_PRECISION_MULTIPLE = 4
"""`MULTIPLE_OF_NOISE` and `ULPS_OF_LARGEST` for dtypes narrower than float32.

Frameworks add products in float32 and round the sum, so two results are a few units apart. 64 units
of bfloat16 would be half of the largest value. Measured in bfloat16 and float16, against PyTorch in
float32 and under autocast: right networks need a multiple of up to 1.9 (ResNet-50 with a quarter of
the channels, 144 rows) and 2.1 (a transformer of 12 layers and width 48, 111 rows). Wrong ones need
17 at least: SiLU for GELU in bfloat16; ReLU for GELU needs 30.
"""

_Layouts = dict[int, set[str]]
"""Layouts that arrays are known to have, by their number of axes."""


def compare_outputs(
    jax_outputs: Sequence[Output],
    torch_outputs: Sequence[Output],
    names: Sequence[str],
    known: Collection[str],
    tolerance: float | None,
    inputs: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> list[Pair]:
    """Pair the outputs of two networks by name and compare them.

    Args:
        jax_outputs: Outputs of the JAX network in order.
        torch_outputs: Outputs of the PyTorch network in order.
        names: Name of each JAX output in PyTorch, or another name if it has none.
        known: Names of all PyTorch modules, among them those that were not called.
        tolerance: Largest allowed `max_rel`. None measures it.
        inputs: Inputs of the JAX network and the same of PyTorch. Where axes have equal sizes,
            outputs of the network may only have the layouts of inputs and of other activations.

    Returns:
        One pair for each match of `pair_outputs`, in the same order.
    """
    layouts = _layouts_of_inputs(inputs)
    pairs = []
    for match in pair_outputs(jax_outputs, torch_outputs, names, known):
        if match.jax is None or match.torch is None:
            pairs.append(_one_sided_pair(match, jax_outputs, torch_outputs))
        else:
            both = jax_outputs[match.jax], torch_outputs[match.torch]
            pairs.append(_compare_pair(match, *both, tolerance, layouts))
    return pairs


def _one_sided_pair(
    match: Match, jax_outputs: Sequence[Output], torch_outputs: Sequence[Output]
) -> Pair:
    """Return the pair of an output that only one of the networks has."""
    if match.jax is not None:
        output = jax_outputs[match.jax]
        row = Row(match.name, match.path, output.number, output.array.shape, note=ONLY_JAX)
        return Pair(row, output.array, None)
    assert match.torch is not None
    output = torch_outputs[match.torch]
    row = Row(match.name, match.path, output.number, output.array.shape, note=ONLY_TORCH)
    return Pair(row, None, output.array, output.number)


def _compare_pair(
    match: Match,
    jax_output: Output,
    torch_output: Output,
    tolerance: float | None,
    layouts: _Layouts,
) -> Pair:
    """Compare two outputs, and add their layout to `layouts` if only one has this shape."""
    jax_array, torch_array = jax_output.array, torch_output.array
    shape, number = jax_array.shape, jax_output.number
    is_output = Row(match.name, match.path, number, shape).is_output
    aligned = (
        _align_output(torch_array, jax_array, layouts)
        if is_output
        else align(torch_array, jax_array)
    )
    if aligned is None:
        note = f"PyTorch's shape is {torch_array.shape}"
        row = Row(match.name, match.path, number, shape, note=note)
        return Pair(row, jax_array, torch_array, torch_output.number)
    if len(list(list_layouts(torch_array, shape))) == 1:
        layouts.setdefault(len(shape), set()).add(aligned.layout)
    max_abs = largest_difference(jax_array, aligned.array)
    largest = _largest_finite(torch_array)
    row = Row(
        match.name,
        match.path,
        number,
        shape,
        aligned.layout,
        max_abs,
        max_abs / largest,
        _allow(jax_output, torch_output, largest) if tolerance is None else tolerance,
    )
    return Pair(row, jax_array, aligned.array, torch_output.number)


def _allow(jax_output: Output, torch_output: Output, largest: float) -> float:
    """Return the difference that rounding explains, relative to the largest value."""
    epsilon = max(_epsilon(jax_output.array), _epsilon(torch_output.array))
    is_low = epsilon > np.finfo(np.float32).eps
    multiple = _LOW_PRECISION_MULTIPLE if is_low else MULTIPLE_OF_NOISE
    ulps = _LOW_PRECISION_MULTIPLE if is_low else ULPS_OF_LARGEST
    noise = max(jax_output.noise, torch_output.noise)
    return max(multiple * noise / largest, ulps * epsilon)


def _largest_finite(array: np.ndarray) -> float:
    """Return the largest absolute value that is finite, or 1 if that is 0."""
    return float(np.max(np.abs(array[np.isfinite(array)]), initial=0)) or 1.0


def _epsilon(array: np.ndarray) -> float:
    """Return the distance from 1 to the next number of the dtype; 0 for integers."""
    return float(jnp.finfo(array.dtype).eps) if jnp.issubdtype(array.dtype, jnp.inexact) else 0.0


def _layouts_of_inputs(inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Layouts:
    """Return the layouts in which inputs are equal."""
    layouts: _Layouts = {}
    for jax_array, torch_array in inputs:
        for array, layout in list_layouts(torch_array, jax_array.shape):
            if np.array_equal(array, jax_array):
                layouts.setdefault(jax_array.ndim, set()).add(layout)
    return layouts


def _align_output(
    torch_array: np.ndarray, jax_array: np.ndarray, layouts: Mapping[int, Collection[str]]
) -> Aligned | None:
    """Align an output of the whole network, whose axes no later layer reads.

    The layout that fits best would hide that a network returns a transposed array.
    """
    possible = list(list_layouts(torch_array, jax_array.shape))
    known = set(layouts.get(jax_array.ndim, ()))
    if not known and jax_array.ndim == 3:
        known = set(itertools.chain(*layouts.values()))
    allowed = [a for a in possible if not known or a.layout in known or a.layout == "same"]
    best = align(torch_array, jax_array, allowed or possible)
    if best is None or len(allowed) < 2:
        return best
    return best._replace(layout=f"{best.layout}, by value")
