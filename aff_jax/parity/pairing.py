"""Pair the calls of two networks and measure how much their outputs differ."""

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from aff_jax.parity.array_differences import largest_difference
from aff_jax.parity.layouts import Aligned, align, list_layouts
from aff_jax.parity.rows import ONLY_FLAX, ONLY_TORCH, Output, Pair, Row

__all__ = ["MULTIPLE", "ULPS", "compare_outputs"]

MULTIPLE = 50
"""How much more two frameworks may differ than a network differs from itself.

Each network runs again with its numbers changed by one unit in the last place, which shows how it
amplifies rounding errors. The multiple allows for sums of thousands of products: the frameworks add
them in different orders, so their results are several units apart.
"""

ULPS = 64
"""Allowed difference in units in the last place of the largest value of a layer."""

LOW_PRECISION = 4
"""`MULTIPLE` and `ULPS` for dtypes with fewer digits than float32.

Frameworks add products in float32 and round the sum, so two results are a few units apart. 64 units
of bfloat16 would be half of the largest value. Measured in bfloat16 and float16, against PyTorch in
float32 and under autocast: right networks need a multiple of up to 1.9 (ResNet-50 with a quarter of
the channels, 144 rows) and 2.1 (a transformer of 12 layers and width 48, 111 rows). Wrong ones need
17 at least: SiLU for GELU in bfloat16; ReLU for GELU needs 30.
"""

ALIKE = 1e-2
"""Relative difference below which two calls of a layer can be the same call."""


def compare_outputs(
    ours: Sequence[Output],
    theirs: Sequence[Output],
    our_names: Sequence[str],
    names: Collection[str],
    tolerance: float | None,
    inputs: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> list[Pair]:
    """Pair the outputs of two networks by name and compare them.

    Args:
        ours: Outputs of the linen network in order.
        theirs: Outputs of the PyTorch network in order, by the same names.
        our_names: Name of each linen output in PyTorch, or another name if it has none.
        names: Names of all PyTorch modules, among them those that were not called.
        tolerance: Largest allowed `max_rel`. None measures it.
        inputs: Inputs of the linen network and the same of PyTorch. Where axes have equal sizes,
            outputs of the network may only have the layouts of inputs and of other activations.

    Returns:
        One pair for each linen output that has a PyTorch name, in order. Outputs that only PyTorch
        has follow the pair that they followed in PyTorch.
    """
    theirs_of: dict[str, list[int]] = {}
    for index, output in enumerate(theirs):
        theirs_of.setdefault(output.module, []).append(index)
    # Several linen modules may have one PyTorch name. If one contains the other, as the ConvNorm
    # `stem` contains the convolution `stem/conv`, and both are called "conv1", the name is that of
    # the innermost one. If not, as `relu1` and `relu2` that are both "relu", PyTorch calls one
    # module several times.
    modules_of: dict[str, dict[str, None]] = {}
    for name, output in zip(our_names, ours, strict=True):
        modules_of.setdefault(name, {})[output.module] = None
    innermost = {
        name: [m for m in modules if not any(_contains(m, other) for other in modules)]
        for name, modules in modules_of.items()
    }
    ours_of: dict[str, list[int]] = {}
    for index, (name, output) in enumerate(zip(our_names, ours, strict=True)):
        is_known = output.module[:1] in ("", "[") or name in theirs_of or name in names
        if output.module in innermost[name] and is_known:
            ours_of.setdefault(name, []).append(index)

    partner: dict[int, int] = {}
    for name, indices in ours_of.items():
        partner |= _pair(indices, theirs_of.get(name, []), ours, theirs)
    layouts = _layouts_of_inputs(inputs)
    pairs: list[tuple[Pair, int | None]] = []
    for index in sorted(itertools.chain.from_iterable(ours_of.values())):
        output = ours[index]
        name, shape = our_names[index], output.array.shape
        other = partner.get(index)
        if other is None:
            row = Row(name, _path(output.module), output.number, shape, note=ONLY_FLAX)
            pair = Pair(row, output.array, None)
        else:
            pair = _compare_pair(name, output, theirs[other], tolerance, layouts)
        pairs.append((pair, other))
    return _insert_theirs(pairs, theirs, ours_of, innermost)


def _insert_theirs(
    pairs: list[tuple[Pair, int | None]],
    theirs: Sequence[Output],
    ours_of: Mapping[str, Sequence[int]],
    innermost: Mapping[str, Sequence[str]],
) -> list[Pair]:
    """Insert the outputs that only PyTorch has behind the pair that they followed in PyTorch."""
    paired = {other for _, other in pairs if other is not None}
    for index, output in enumerate(theirs):
        if output.module in ours_of and index not in paired:
            earlier = [i for i, (_, o) in enumerate(pairs) if o is not None and o < index]
            path = _path(innermost[output.module][0])
            row = Row(output.module, path, output.number, output.array.shape, note=ONLY_TORCH)
            place = max(earlier, default=-1) + 1
            while place < len(pairs) and pairs[place][0].row.is_one_sided:
                place += 1
            pairs.insert(place, (Pair(row, None, output.array, output.number), index))
    return [pair for pair, _ in pairs]


def _pair(
    our_calls: Sequence[int],
    their_calls: Sequence[int],
    ours: Sequence[Output],
    theirs: Sequence[Output],
) -> dict[int, int]:
    """Pair the calls of one layer in order, and leave out those that fit least.

    For example, a ReLU that is called three times here and twice in PyTorch, whose second call here
    has the values of no call there, gives the pairs of calls {1: 1, 3: 2}.
    """
    if len(our_calls) == len(their_calls):
        return dict(zip(our_calls, their_calls, strict=True))
    # The alignment with the most pairs of which the most are alike, by dynamic programming.
    best: dict[tuple[int, int], tuple[int, int, list[tuple[int, int]]]] = {}
    for i, j in itertools.product(range(len(our_calls), -1, -1), range(len(their_calls), -1, -1)):
        if i == len(our_calls) or j == len(their_calls):
            best[i, j] = (0, 0, [])
            continue
        alike, pairs, chosen = best[i + 1, j + 1]
        is_alike = _is_alike(ours[our_calls[i]].array, theirs[their_calls[j]].array)
        options = [
            (alike + is_alike, pairs + 1, [(our_calls[i], their_calls[j]), *chosen]),
            best[i + 1, j],
            best[i, j + 1],
        ]
        best[i, j] = max(options, key=lambda option: option[:2])
    return dict(best[0, 0][2])


def _is_alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    aligned = align(theirs, ours)
    if aligned is None:
        return False
    largest = float(np.max(np.abs(theirs), initial=0))
    return largest_difference(ours, aligned.array) <= ALIKE * (largest or 1.0)


def _layouts_of_inputs(inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[int, set[str]]:
    """Return the layouts in which inputs are equal, by the number of axes."""
    layouts: dict[int, set[str]] = {}
    for ours, theirs in inputs:
        for array, layout in list_layouts(theirs, ours.shape):
            if np.array_equal(array, ours):
                layouts.setdefault(ours.ndim, set()).add(layout)
    return layouts


def _align_output(
    theirs: np.ndarray, ours: np.ndarray, layouts: Mapping[int, Collection[str]]
) -> Aligned | None:
    """Align an output of the whole network, whose axes no later layer reads.

    The layout that fits best would hide that a network returns a transposed array.
    """
    whole = list(list_layouts(theirs, ours.shape))
    known = set(layouts.get(ours.ndim, ()))
    if not known and ours.ndim == 3:
        known = set(itertools.chain(*layouts.values()))
    allowed = [a for a in whole if not known or a.layout in known or a.layout == "same"]
    best = align(theirs, ours, allowed or whole)
    if best is None or len(allowed) < 2:
        return best
    return best._replace(layout=f"{best.layout}, by value")


def _compare_pair(
    name: str,
    ours: Output,
    theirs: Output,
    tolerance: float | None,
    layouts: dict[int, set[str]],
) -> Pair:
    """Compare two outputs, and add their layout to `layouts` if only one has this shape."""
    path, shape = _path(ours.module), ours.array.shape
    row = Row(name, path, ours.number, shape)
    aligned = (
        _align_output(theirs.array, ours.array, layouts)
        if row.is_output
        else align(theirs.array, ours.array)
    )
    if aligned is None:
        row = dataclasses.replace(row, note=f"PyTorch's shape is {theirs.array.shape}")
        return Pair(row, ours.array, theirs.array, theirs.number)
    if len(list(list_layouts(theirs.array, shape))) == 1:
        layouts.setdefault(len(shape), set()).add(aligned.layout)
    max_abs = largest_difference(ours.array, aligned.array)
    finite = np.abs(theirs.array[np.isfinite(theirs.array)])
    largest = float(np.max(finite, initial=0)) or 1.0
    allowed = tolerance
    if allowed is None:
        epsilon = max(_epsilon(ours.array), _epsilon(theirs.array))
        is_low = epsilon > np.finfo(np.float32).eps
        multiple, ulps = (LOW_PRECISION,) * 2 if is_low else (MULTIPLE, ULPS)
        allowed = max(multiple * max(ours.noise, theirs.noise) / largest, ulps * epsilon)
    row = Row(name, path, ours.number, shape, aligned.layout, max_abs, max_abs / largest, allowed)
    return Pair(row, ours.array, aligned.array, theirs.number)


def _epsilon(array: np.ndarray) -> float:
    """Return the distance from 1 to the next number of the dtype; 0 for integers."""
    return float(jnp.finfo(array.dtype).eps) if jnp.issubdtype(array.dtype, jnp.inexact) else 0.0


def _contains(outer: str, inner: str) -> bool:
    """Return whether a module contains another one, both with the position of an array."""
    outer, inner = outer.partition("[")[0], inner.partition("[")[0]
    return outer != inner and f"{inner}/".startswith(f"{outer}/" if outer else "")


def _path(module: str) -> str:
    """Write the position of an array behind a slash, as "a/b/[1]"."""
    base, bracket, position = module.partition("[")
    return f"{base}/[{position}".lstrip("/") if bracket else module
