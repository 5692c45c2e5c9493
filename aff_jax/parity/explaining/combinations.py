"""Describe an array as a sum, product or attention of earlier activations."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from aff_jax.parity.explaining.functions import list_elementwise
from aff_jax.parity.explaining.reordering import Fits

__all__ = ["broadcasts", "name_attention", "name_combination"]

_Named = tuple[str, np.ndarray]
"""Label of an activation in sentences, and its values."""

_MAX_SOURCES = 6
"""Number of latest activations that may be combined. All pairs of them are tried."""

_VALUES_OF_COMBINATION = 512
"""Number of values in which a sum or product is looked for.

A wrong one does not agree in so many places, and the search takes time in proportion to them.
"""

_OUTER_FUNCTIONS = ("the identity", "relu", "silu")
"""Functions that may follow a sum or product."""

_MAX_POSITIONS = 1024
"""Longest sequence for which attention is tried; its weights grow with the square of it."""

_MAX_HEADS = 32


def name_combination(target: np.ndarray, sources: Sequence[_Named], fits: Fits) -> str:
    """Describe an array as a sum or product of functions of two activations.

    Args:
        target: The array.
        sources: Activations, the latest one first.
        fits: Returns whether two arrays are equal.

    Returns:
        A description, such as "silu of `w1` times the output of `w3`", or an empty string.
    """
    shape = target.shape
    usable = [s for s in sources if s[1].ndim == len(shape) and broadcasts(s[1].shape, shape)]
    if not usable or not target.size:
        return ""
    places = np.sort(np.random.default_rng(0).permutation(target.size)[:_VALUES_OF_COMBINATION])
    values = target.ravel()[places]
    labels, terms, owners = [], [], []
    for number, (label, array) in enumerate(usable[:_MAX_SOURCES]):
        sample = np.broadcast_to(array, shape).ravel()[places]
        for name, function in list_elementwise():
            term = function(sample)
            if np.isfinite(term).all() and np.ptp(term) > 0:
                labels.append(label if name == "the identity" else f"{name} of {label}")
                terms.append(term)
                owners.append(number)
    if not terms:
        return ""
    table, owner = np.stack(terms), np.array(owners)
    outer = [f for f in list_elementwise() if f[0] in _OUTER_FUNCTIONS]
    for (after, function), (word, operation) in itertools.product(
        outer, (("times", np.multiply), ("plus", np.add))
    ):
        for first, label in enumerate(labels):
            results = function(operation(table[first], table))
            near = np.max(np.abs(results[:, :16] - values[:16]), axis=1)
            likely = near <= 1e-2 * np.max(np.abs(values))
            for second in np.flatnonzero(likely & (owner > owner[first])):
                if fits(results[second], values):
                    found = f"{labels[second]} {word} {label}"
                    return found if after == "the identity" else f"{after} of ({found})"
    return ""


def name_attention(target: np.ndarray, sources: Sequence[_Named], fits: Fits) -> str:
    """Describe an array as the output of attention.

    Args:
        target: Array `(batch, positions, channels)`.
        sources: Activations, the latest one first.
        fits: Returns whether two arrays are equal.

    Returns:
        A description, such as "causal attention of 2 heads", or an empty string.
    """
    if target.ndim != 3 or not 1 < target.shape[1] <= _MAX_POSITIONS:
        return ""
    _, positions, channels = target.shape
    rows = sorted({0, positions // 2, positions - 1})
    expected = target[0, rows]
    is_later = np.arange(positions) > np.array(rows)[:, None]
    heads = [n for n in range(1, _MAX_HEADS + 1) if channels % n == 0]
    for label, query, key, value in _list_projections(target, sources, heads):
        size = query.shape[-1]
        turned = {
            turn: np.einsum("qhd,khd->hqk", turn_positions(query)[rows], turn_positions(key))
            for turn, turn_positions in _ROTATIONS.items()
            if turn == "" or size % 2 == 0
        }
        for (turn, products), is_causal, (name, scale) in itertools.product(
            turned.items(),
            (False, True),
            (
                ("", size**-0.5),
                (", without scaling", 1.0),
                (", scaled by all channels", channels**-0.5),
            ),
        ):
            logits = np.where(is_later & is_causal, -np.inf, products * scale)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            result = np.einsum("hqk,khd->qhd", weights, value).reshape(len(rows), channels)
            if fits(result, expected):
                kind = "causal attention" if is_causal else "attention"
                return f"{kind} of {query.shape[1]} heads{name}{turn} of {label}"
    return ""


def _rotate_halves(x: np.ndarray) -> np.ndarray:
    """Rotate pairs (i, i + size / 2) of channels by the angles of their positions."""
    one, other = np.split(x, 2, axis=-1)
    cos, sin = _cos_sin(x)
    return np.concatenate([one * cos - other * sin, other * cos + one * sin], -1)


def _rotate_neighbors(x: np.ndarray) -> np.ndarray:
    """Rotate pairs (2 i, 2 i + 1) of channels by the angles of their positions."""
    one, other = x[..., ::2], x[..., 1::2]
    cos, sin = _cos_sin(x)
    return np.stack([one * cos - other * sin, other * cos + one * sin], -1).reshape(x.shape)


def _cos_sin(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and sines `(positions, 1, size / 2)` of position / 10000^(2 i / size)."""
    positions, _, size = x.shape
    angles = np.arange(positions)[:, None, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    return np.cos(angles), np.sin(angles)


_ROTATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda x: x,
    ", with rotary embedding of the two halves of the channels": _rotate_halves,
    ", with rotary embedding of neighboring channels": _rotate_neighbors,
}
"""Embeddings of positions `(positions, heads, size)` of queries and keys, by their description."""


def _list_projections(
    target: np.ndarray, sources: Sequence[_Named], heads: Sequence[int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """List possible queries, keys and values `(positions, heads, size)` of the first example."""
    _, positions, channels = target.shape
    alone = [s for s in sources if s[1].shape == target.shape][:3]
    if len(alone) == 3:
        for (query, key, value), number in itertools.product(
            itertools.permutations(alone[::-1]), heads
        ):
            parts = [array[0].reshape(positions, number, -1) for _, array in (query, key, value)]
            yield f"{query[0]} (query), {key[0]} (key) and {value[0]} (value)", *parts
        for number in heads[1:]:
            parts = [a[0].reshape(positions, -1, number).swapaxes(1, 2) for _, a in alone[::-1]]
            yield "three projections, whose channels are split into (size, heads)", *parts
    for label, array in [s for s in sources if s[1].shape == (*target.shape[:2], 3 * channels)][:1]:
        for order, number in itertools.product(itertools.permutations(range(3)), heads):
            names = ", ".join(("query", "key", "value")[order.index(i)] for i in range(3))
            for split, shape, axis in (
                ("(3, heads, size)", (3, number, -1), 1),
                ("(heads, 3, size)", (number, 3, channels // number), 2),
                ("(heads, size, 3)", (number, channels // number, 3), 3),
            ):
                parts = np.moveaxis(array[0].reshape(positions, *shape), axis, 0)
                yield f"{label}, split into {split} with {names}", *(parts[i] for i in order)


def broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Return whether a shape broadcasts to another one with as many axes.

    Args:
        small: The shape.
        large: The shape to reach.

    Returns:
        True if each axis has the size of the axis in `large`, or size 1.
    """
    return all(s in (1, n) for s, n in zip(small, large, strict=True))
