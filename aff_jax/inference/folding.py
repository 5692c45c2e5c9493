"""Batch normalization folded into the layers before it, for evaluation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.inspection import ModulePath
from aff_jax.nn.batch_norm import along_channels
from aff_jax.nn.input_checks import check_channels

__all__ = ["NORMS", "Folding", "apply_folded", "fold"]

NORMS = "norms"
"""Collection of what remains of folded batch norms: `factor`, `shift`, both or neither."""


@dataclasses.dataclass(frozen=True)
class Folding:
    """The layer that a batch norm is folded into.

    Attributes:
        layer_path: Path of the layer. None if the norm becomes a factor and a shift.
        epsilon: Epsilon of the norm.
        layer_bias: True if the layer has a bias, to which the shift is added.
    """

    layer_path: ModulePath | None
    epsilon: float
    layer_bias: bool = False


def fold(variables: Mapping[str, Any], foldings: Mapping[ModulePath, Folding]) -> dict[str, Any]:
    """Move batch norms into kernels and biases.

    With running statistics, batch normalization is `x * factor + shift`::

        factor = scale / sqrt(var + epsilon)
        shift  = bias - mean * factor

    They are folded into the layer before the norm::

        kernel     <- kernel * factor
        layer_bias <- layer_bias * factor + shift

    If the layer has no bias, the shift remains in the collection `NORMS`. If the norm has no layer,
    both remain. The arithmetic is in float64, and results have the dtype of the original array.

    Args:
        variables: Variables of the module.
        foldings: Foldings by path of the norm, from `find_foldings`.

    Returns:
        Variables for `apply_folded`, without the parameters and statistics of the folded norms.
    """
    leaves = dict(traverse_util.flatten_dict(dict(variables)))
    for path, folding in foldings.items():
        mean, var = (leaves.pop(("batch_stats", *path, name)) for name in ("mean", "var"))
        dtype = jnp.promote_types(mean.dtype, jnp.float32)
        mean, var = np.asarray(mean, np.float64), np.asarray(var, np.float64)
        scale, bias = (leaves.pop(("params", *path, name), None) for name in ("scale", "bias"))
        factor = 1 / np.sqrt(var + folding.epsilon)
        if scale is not None:
            factor = factor * np.asarray(scale, np.float64)
        shift = -mean * factor
        if bias is not None:
            shift = shift + np.asarray(bias, np.float64)

        if folding.layer_path is None:
            leaves[(NORMS, *path, "factor")] = jnp.asarray(factor, dtype)
        else:
            _scale_last_axis(leaves, ("params", *folding.layer_path, "kernel"), factor)
        if folding.layer_bias:
            assert folding.layer_path is not None
            _scale_last_axis(leaves, ("params", *folding.layer_path, "bias"), factor, shift)
        else:
            leaves[(NORMS, *path, "shift")] = jnp.asarray(shift, dtype)
    return traverse_util.unflatten_dict(leaves)


def apply_folded(
    apply: Callable[..., Any],
    foldings: Mapping[ModulePath, Folding],
    variables: Mapping[str, Any],
    *inputs: Any,
    dtype: Any = None,
) -> Any:
    """Apply a module in evaluation mode with folded variables.

    Calls of folded norms are intercepted. Each applies its remaining factor and shift, if any.

    Args:
        apply: Function that the foldings were found in, such as the `apply` of a module.
        foldings: Foldings by path of the norm, from `find_foldings`.
        variables: Variables from `fold`.
        *inputs: Inputs of `apply`.
        dtype: Dtype of the outputs of folded norms whose field `dtype` is None.

    Returns:
        The output of `apply` with the original variables, up to rounding.
    """
    remaining = traverse_util.flatten_dict(dict(variables.get(NORMS, {})))

    def replace_norm(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        norm, path = context.module, tuple(context.module.path)
        if context.method_name != "__call__" or path not in foldings:
            return call(*args, **kwargs)
        x = args[0]
        output_dtype = norm.dtype or dtype or _output_dtype(norm, x)
        for name, combine in (("factor", jnp.multiply), ("shift", jnp.add)):
            if (*path, name) in remaining:
                vector = remaining[(*path, name)]
                check_channels("/".join(path), x.shape, len(vector))
                x = combine(x, along_channels(vector, x.ndim))
        return x.astype(output_dtype)

    with nn.intercept_methods(replace_norm):
        module_variables = {name: tree for name, tree in variables.items() if name != NORMS}
        return apply(module_variables, *inputs)


def _output_dtype(norm: nn.Module, x: jax.Array) -> Any:
    """Return the dtype of the norm's output if its field `dtype` is None."""
    if type(norm) is nn.BatchNorm and not (norm.use_scale or norm.use_bias):
        return x.dtype  # Flax promotes only with the parameters that exist.
    return jnp.result_type(x.dtype, norm.param_dtype)


def _scale_last_axis(
    leaves: dict[ModulePath, Any],
    path: ModulePath,
    factor: np.ndarray,
    shift: np.ndarray | float = 0.0,
) -> None:
    """Replace one array by `array * factor + shift`, computed in float64."""
    leaf = leaves[path]
    leaves[path] = jnp.asarray(np.asarray(leaf, np.float64) * factor + shift, leaf.dtype)
