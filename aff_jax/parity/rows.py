"""Pair the calls of two networks and measure how much their outputs differ."""

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from aff_jax.parity.layouts import align, largest_difference
from aff_jax.parity.recording import Call

__all__ = [
    "MULTIPLE",
    "ONLY_FLAX",
    "ONLY_TORCH",
    "ULPS",
    "Output",
    "Pair",
    "Row",
    "compare_outputs",
    "list_outputs",
]

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
of bfloat16 would be half of the largest value.
"""

ONLY_FLAX = "called in Flax only"
"""Note of a row whose call only the linen network made."""

ONLY_TORCH = "called in PyTorch only"
"""Note of a row whose call only the PyTorch network made."""

ALIKE = 1e-2
"""Relative difference below which two calls of a layer can be the same call."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Comparison of one activation.

    Attributes:
        name: Name of the PyTorch module. Empty for the output of the whole network.
        path: Path of the linen module. Empty for the output of the whole network. If a module
            returns several arrays, the position of this one follows as "[0]", "[1]" and so on.
        call: Number of the call of this module, starting at 1.
        shape: Shape of the linen activation.
        layout: Layout of the PyTorch activation, such as "channels first".
        max_abs: Largest absolute difference. None if the activations could not be compared.
        max_rel: `max_abs` divided by PyTorch's largest absolute value. None if `max_abs` is.
        allowed: Largest `max_rel` that rounding explains.
        note: Reason why the activations could not be compared.
    """

    name: str
    path: str
    call: int
    shape: tuple[int, ...]
    layout: str = ""
    max_abs: float | None = None
    max_rel: float | None = None
    allowed: float = 0.0
    note: str = ""

    @property
    def is_one_sided(self) -> bool:
        """Return whether only one of the networks made this call, or returned this array."""
        return self.note in (ONLY_FLAX, ONLY_TORCH)

    @property
    def is_output(self) -> bool:
        """Return whether this is an output of the whole network."""
        return self.path.partition("[")[0] == ""

    @property
    def differs(self) -> bool:
        """Return whether the activations differ, are NaN, or could not be compared."""
        return self.note != "" or self.max_rel is None or not self.max_rel <= self.allowed


class Output(NamedTuple):
    """One array that a call returned.

    Attributes:
        module: Path or name of the module, with the position of the array, such as "[1]".
        number: Number of the call.
        array: The array.
        perturbed: The array of the run with numbers changed by one unit in the last place.
    """

    module: str
    number: int
    array: np.ndarray
    perturbed: np.ndarray

    @property
    def noise(self) -> float:
        """Return how much the perturbed numbers changed the array."""
        if self.array.shape != self.perturbed.shape:
            return 0.0
        return largest_difference(self.array, self.perturbed)


class Pair(NamedTuple):
    """A row and the arrays that it compares.

    Attributes:
        row: The row.
        ours: Array of the linen network. None if only PyTorch made the call.
        theirs: Array of the PyTorch network. It has the layout of `ours` if there is one with its
            shape. None if only the linen network made the call.
        torch_call: Number of PyTorch's call. It differs from that of the row if two linen modules
            have the name of one PyTorch module. 0 if only the linen network made the call.
    """

    row: Row
    ours: np.ndarray | None
    theirs: np.ndarray | None
    torch_call: int = 0


def list_outputs(calls: Sequence[Call], perturbed: Sequence[Call]) -> list[Output]:
    """List the arrays that calls returned, one by one.

    Args:
        calls: Calls of a network.
        perturbed: Calls of the same network with perturbed numbers.

    Returns:
        The arrays in the order of the calls.
    """
    outputs = []
    for call, again in itertools.zip_longest(calls, perturbed):
        if call is None:
            break
        is_same = again is not None and (again.module, again.number) == (call.module, call.number)
        for index, array in enumerate(call.outputs):
            name = f"{call.module}[{index}]" if len(call.outputs) > 1 else call.module
            other_array = again.outputs[index] if is_same else array
            outputs.append(Output(name, call.number, array, other_array))
    return outputs


def compare_outputs(
    ours: Sequence[Output],
    theirs: Sequence[Output],
    our_names: Sequence[str],
    names: Collection[str],
    tolerance: float | None,
) -> list[Pair]:
    """Pair the outputs of two networks by name and compare them.

    Args:
        ours: Outputs of the linen network in order.
        theirs: Outputs of the PyTorch network in order, by the same names.
        our_names: Name of each linen output in PyTorch, or another name if it has none.
        names: Names of all PyTorch modules, among them those that were not called.
        tolerance: Largest allowed `max_rel`. None measures it.

    Returns:
        One pair for each linen output that has a PyTorch name, in order. Outputs that only PyTorch
        has follow the pair that they followed in PyTorch.
    """
    theirs_of: dict[str, list[int]] = {}
    for index, output in enumerate(theirs):
        theirs_of.setdefault(output.module, []).append(index)
    # Several linen modules may have one PyTorch name. If they contain each other, as a ConvNorm
    # contains its convolution, the name is that of the innermost one. If they do not, PyTorch calls
    # one module several times.
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
    pairs: list[tuple[Pair, int | None]] = []
    for index in sorted(itertools.chain.from_iterable(ours_of.values())):
        output = ours[index]
        name, shape = our_names[index], output.array.shape
        other = partner.get(index)
        if other is None:
            row = Row(name, _path(output.module), output.number, shape, note=ONLY_FLAX)
            pair = Pair(row, output.array, None)
        else:
            pair = _compare_pair(name, output, theirs[other], tolerance)
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
    mine: Sequence[int], other: Sequence[int], ours: Sequence[Output], theirs: Sequence[Output]
) -> dict[int, int]:
    """Pair the calls of one layer in order, and leave out those that fit least."""
    if len(mine) == len(other):
        return dict(zip(mine, other, strict=True))
    # The alignment with the most pairs of which the most are alike, by dynamic programming.
    best: dict[tuple[int, int], tuple[int, int, list[tuple[int, int]]]] = {}
    for i, j in itertools.product(range(len(mine), -1, -1), range(len(other), -1, -1)):
        if i == len(mine) or j == len(other):
            best[i, j] = (0, 0, [])
            continue
        alike, pairs, chosen = best[i + 1, j + 1]
        is_alike = _is_alike(ours[mine[i]].array, theirs[other[j]].array)
        options = [
            (alike + is_alike, pairs + 1, [(mine[i], other[j]), *chosen]),
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


def _compare_pair(name: str, ours: Output, theirs: Output, tolerance: float | None) -> Pair:
    path, shape = _path(ours.module), ours.array.shape
    aligned = align(theirs.array, ours.array)
    if aligned is None:
        note = f"PyTorch's shape is {theirs.array.shape}"
        row = Row(name, path, ours.number, shape, note=note)
        return Pair(row, ours.array, theirs.array, theirs.number)
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
