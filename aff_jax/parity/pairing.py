"""Pair the outputs of two networks by their names.

For example, PyTorch calls its module `relu` once more than JAX::

    JAX          name in PyTorch    PyTorch
    stem/conv    conv1              conv1
    relu         relu               relu, call 1
                                    relu, call 2
    fc           fc                 fc

Then the pairs are (`stem/conv`, `conv1`), (`relu`, call 1 of `relu`), (nothing, call 2 of `relu`)
and (`fc`, `fc`), in this order.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from aff_jax.parity.array_differences import is_allowed
from aff_jax.parity.layouts import align
from aff_jax.parity.rows import Output

__all__ = ["Match", "pair_outputs"]

_ALIKE = 1e-2
"""Relative difference below which two calls of a layer can be the same call."""


class Match(NamedTuple):
    """Outputs of both networks that belong together.

    Attributes:
        name: Name of the PyTorch module.
        path: Path of the JAX module.
        jax: Position among the outputs of the JAX network, or None if only PyTorch has this output.
        torch: Position among the outputs of the PyTorch network, or None if only JAX has it.
    """

    name: str
    path: str
    jax: int | None
    torch: int | None


def pair_outputs(
    jax_outputs: Sequence[Output],
    torch_outputs: Sequence[Output],
    names: Sequence[str],
    known: Collection[str],
) -> list[Match]:
    """Pair the outputs of two networks by name.

    Args:
        jax_outputs: Outputs of the JAX network in order.
        torch_outputs: Outputs of the PyTorch network in order.
        names: Name of each JAX output in PyTorch, or another name if it has none.
        known: Names of all PyTorch modules, among them those that were not called.

    Returns:
        One match for each JAX output that has a PyTorch name, in order. Outputs that only PyTorch
        has follow the match that they followed in PyTorch.
    """
    torch_calls: dict[str, list[int]] = {}
    for place, output in enumerate(torch_outputs):
        torch_calls.setdefault(output.module, []).append(place)
    innermost = _innermost_modules(jax_outputs, names)
    jax_calls: dict[str, list[int]] = {}
    for place, (name, output) in enumerate(zip(names, jax_outputs, strict=True)):
        is_whole = output.module.partition("[")[0] == ""
        if output.module in innermost[name] and (is_whole or name in torch_calls or name in known):
            jax_calls.setdefault(name, []).append(place)
    partners: dict[int, int] = {}
    for name, calls in jax_calls.items():
        partners |= _pair_calls(calls, torch_calls.get(name, []), jax_outputs, torch_outputs)
    matches = [
        Match(names[place], _path(jax_outputs[place].module), place, partners.get(place))
        for place in sorted(place for calls in jax_calls.values() for place in calls)
    ]
    paired = set(partners.values())
    only_torch = [
        Match(name, _path(innermost[name][0]), None, place)
        for place, name in enumerate(output.module for output in torch_outputs)
        if name in jax_calls and place not in paired
    ]
    for match in only_torch:
        matches.insert(_place_of(match, matches), match)
    return matches


def _innermost_modules(outputs: Sequence[Output], names: Sequence[str]) -> dict[str, list[str]]:
    """List for each name in PyTorch the JAX modules that have it and contain no other one.

    The ConvNorm `stem` contains the convolution `stem/conv`, and the name of both is "conv1": only
    `stem/conv` is listed. The modules `relu1` and `relu2`, whose name is "relu", are both listed,
    since PyTorch calls one module several times.
    """
    modules_of: dict[str, dict[str, None]] = {}
    for name, output in zip(names, outputs, strict=True):
        modules_of.setdefault(name, {})[output.module] = None
    return {
        name: [m for m in modules if not any(_contains(m, other) for other in modules)]
        for name, modules in modules_of.items()
    }


def _pair_calls(
    jax_calls: Sequence[int],
    torch_calls: Sequence[int],
    jax_outputs: Sequence[Output],
    torch_outputs: Sequence[Output],
) -> dict[int, int]:
    """Pair the calls of one layer in order, and leave out the calls that fit least.

    With as many calls on both sides, the first is paired with the first and so on. A ReLU that is
    called three times in JAX and twice in PyTorch, whose second call in JAX has the values of no
    call in PyTorch, gives the pairs of calls {1: 1, 3: 2}.
    """
    if len(jax_calls) == len(torch_calls):
        return dict(zip(jax_calls, torch_calls, strict=True))
    # By dynamic programming. best[i, j] is the best pairing of the calls from the i-th one in JAX
    # and from the j-th one in PyTorch: the number of pairs that are alike, the number of all pairs,
    # and the pairs.
    best: dict[tuple[int, int], tuple[int, int, list[tuple[int, int]]]] = {}
    for i in range(len(jax_calls), -1, -1):
        for j in range(len(torch_calls), -1, -1):
            if i == len(jax_calls) or j == len(torch_calls):
                best[i, j] = (0, 0, [])
                continue
            alike, count, pairs = best[i + 1, j + 1]
            pair = (jax_calls[i], torch_calls[j])
            is_alike = _is_alike(jax_outputs[pair[0]].array, torch_outputs[pair[1]].array)
            paired = (alike + is_alike, count + 1, [pair, *pairs])
            best[i, j] = max(paired, best[i + 1, j], best[i, j + 1], key=lambda option: option[:2])
    return dict(best[0, 0][2])


def _is_alike(jax_array: np.ndarray, torch_array: np.ndarray) -> bool:
    """Return whether two arrays can come from the same call."""
    aligned = align(torch_array, jax_array)
    return aligned is not None and is_allowed(jax_array, aligned.array, _ALIKE)


def _place_of(match: Match, matches: Sequence[Match]) -> int:
    """Return where to insert an output that only PyTorch has.

    The place is behind the last output that PyTorch computed before it. If outputs that only one
    side has follow there, the place is behind these too.
    """
    assert match.torch is not None
    earlier = [i for i, m in enumerate(matches) if m.torch is not None and m.torch < match.torch]
    place = max(earlier, default=-1) + 1
    while place < len(matches) and None in (matches[place].jax, matches[place].torch):
        place += 1
    return place


def _contains(outer: str, inner: str) -> bool:
    """Return whether a module contains another one, both with the position of an array."""
    outer, inner = outer.partition("[")[0], inner.partition("[")[0]
    return outer != inner and f"{inner}/".startswith(f"{outer}/" if outer else "")


def _path(module: str) -> str:
    """Write the position of an array behind a slash, as "a/b/[1]"."""
    base, bracket, position = module.partition("[")
    return f"{base}/[{position}".lstrip("/") if bracket else module
