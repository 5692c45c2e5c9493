"""Fold PyTorch's reparametrized weights into plain ones.

`weight_norm` and `spectral_norm` of `torch.nn.utils`, and of `torch.nn.utils.parametrizations`,
store other arrays than the weight, and compute it in every call::

    weight_norm     weight = g * v / |v|             the norm is over the axes where g has size 1,
                                                     or over all if g is a scalar
    spectral_norm   weight = w / (u . (W v))         W is w as a matrix; u and v are stored

The folded weight gives the same outputs in evaluation. It is a plain kernel, so training continues
without the reparametrization.

References:
    PyTorch, `torch/nn/utils/weight_norm.py`, `spectral_norm.py` and `parametrizations.py`.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from aff_jax.convert.entries import Entry

__all__ = ["fold_reparametrizations"]


class _Kind(NamedTuple):
    """One way in which PyTorch stores a reparametrized weight.

    Attributes:
        name: Pattern of the name of its first array. The groups are the module and the weight.
        arrays: Templates of the names of all arrays.
        fold: Computes the weight from the arrays and the axis of the output channels.
    """

    name: str
    arrays: tuple[str, ...]
    fold: Callable[..., np.ndarray]


def fold_reparametrizations(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, Entry | None]
) -> dict[str, np.ndarray]:
    """Replace the arrays of reparametrized weights by the weights.

    Args:
        arrays: Arrays of a PyTorch checkpoint by name.
        expected: Names of the arrays that the module has, and their entries if there are any.
            Arrays with these names are kept.

    Returns:
        The arrays, with weights in float64 in the place of their parts.
    """
    result = dict(arrays)
    for kind in _KINDS:
        for name in arrays:
            match = re.fullmatch(kind.name, name)
            parts = [match.expand(part) for part in kind.arrays] if match else []
            if not match or any(part not in result or part in expected for part in parts):
                continue
            weight = match[1] + match[2]
            entry = expected.get(weight)
            is_transposed = entry is not None and entry.layout == "transposed convolution"
            values = [result[part].astype(np.float64) for part in parts]
            try:
                folded = kind.fold(*values, axis=1 if is_transposed else 0)
            except ValueError:  # other arrays of these names; an error lists them as unexpected
                continue
            result = {key: array for key, array in result.items() if key not in parts}
            result.setdefault(weight, folded)
    return result


def _fold_weight_norm(g: np.ndarray, v: np.ndarray, axis: int) -> np.ndarray:
    # The shape of g tells the axes: it has ones where the norm is taken. `dim=None` is a scalar.
    axes = tuple(i for i in range(v.ndim) if g.ndim != v.ndim or g.shape[i] == 1)
    return g * v / np.sqrt(np.sum(v * v, axis=axes, keepdims=True))


def _fold_spectral_norm(w: np.ndarray, u: np.ndarray, v: np.ndarray, axis: int) -> np.ndarray:
    matrix = np.moveaxis(w, axis, 0).reshape(len(u), len(v))
    return w / (u @ matrix @ v)


_MODULE = r"((?:.*\.)?)"
_PARAMETRIZATION = r"\1parametrizations.\2"

_KINDS = (
    _Kind(rf"{_MODULE}(\w+)_g", (r"\1\2_g", r"\1\2_v"), _fold_weight_norm),
    _Kind(
        rf"{_MODULE}parametrizations\.(\w+)\.original0",
        (f"{_PARAMETRIZATION}.original0", f"{_PARAMETRIZATION}.original1"),
        _fold_weight_norm,
    ),
    _Kind(rf"{_MODULE}(\w+)_orig", (r"\1\2_orig", r"\1\2_u", r"\1\2_v"), _fold_spectral_norm),
    _Kind(
        rf"{_MODULE}parametrizations\.(\w+)\.original",
        (
            f"{_PARAMETRIZATION}.original",
            f"{_PARAMETRIZATION}.0._u",
            f"{_PARAMETRIZATION}.0._v",
        ),
        _fold_spectral_norm,
    ),
)
"""The ways in which PyTorch stores reparametrized weights."""
