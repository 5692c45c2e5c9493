"""A branch of attention whose wide logits are never normalized in memory.

The logits of a branch are the widest arrays of a fusion. Their mean and variance follow from the
mean and the covariance of the narrow hidden layer, and the normalization can be multiplied into the
kernel. That saves two passes over the logits in the forward pass and four in the backward pass.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float

from aff_jax.fast.projected_moments import projected_moments
from aff_jax.fast.rule import takes_shortcut
from aff_jax.nn.batch_norm import BatchNorm, along_channels

__all__ = ["branch_with_derived_statistics", "dense_norm"]


def branch_with_derived_statistics(
    u: Float[Array, "batch *spatial in_channels"],
    reduce: nn.Dense,
    reduce_norm: Callable[..., Array],
    activation: Callable[[Array], Array],
    expand: nn.Dense,
    expand_norm: Callable[..., Array],
    implementation: str,
) -> Float[Array, "batch *spatial channels"]:
    """Compute a branch of attention in training, with statistics derived from the hidden layer.

    The result is::

        expand_norm(expand(activation(reduce_norm(reduce(u)))))

    It updates the running statistics of both norms, as the formula does.

    Args:
        u: Array `(batch, *spatial, in_channels)`.
        reduce: Dense layer to the hidden channels, bound to its variables, as the other layers are.
        reduce_norm: Normalization of the hidden layer.
        activation: Function that is applied to the normalized hidden layer.
        expand: Dense layer to the output channels.
        expand_norm: Batch normalization of the output, a `BatchNorm`.
        implementation: The field of the branch, "auto".

    Returns:
        Logits `(batch, *spatial, channels)`.
    """
    assert isinstance(expand_norm, BatchNorm)  # by the rule of `takes_shortcut`
    flat = takes_shortcut("flat_rows", implementation)
    rows = u.reshape(-1, u.shape[-1]) if flat else u
    hidden = activation(reduce_norm(reduce(rows), train=True))
    product, shift = dense_norm(expand, expand_norm, hidden)
    # Add the shift as one row per example. Its gradient is then the sum over positions that the
    # global branch needs too, and XLA computes it once.
    per_example = jnp.broadcast_to(
        along_channels(shift, u.ndim), (len(u), *(1 for _ in u.shape[1:-1]), len(shift))
    )
    return product.reshape(*u.shape[:-1], -1) + per_example.astype(product.dtype)


def dense_norm(
    dense: nn.Dense, norm: BatchNorm, x: Float[Array, "*batch inputs"]
) -> tuple[Float[Array, "*batch channels"], Float[Array, " channels"]]:
    """Compute `norm(dense(x), train=True)` with the normalization multiplied into the kernel.

    The normalized product is `product + shift`, where::

        product = x @ (kernel * factor),   factor = scale / sqrt(var + epsilon)
        shift   = bias - mean * factor

    where `scale` and `bias` are parameters of the norm, and `mean` and `var` are the moments of
    `x @ kernel`, derived from the moments of `x`.

    Args:
        dense: The dense layer, bound to its variables.
        norm: The batch normalization, bound to its variables, which are updated.
        x: Array `(*batch, inputs)`.

    Returns:
        product `(*batch, channels)`, and shift `(channels,)` in float32 or wider.

    Raises:
        ValueError: If a parameter of `dense` or `norm` is missing.
    """
    kernel = _parameter(dense, "kernel")
    offset = _parameter(dense, "bias") if dense.use_bias else jnp.zeros((), kernel.dtype)
    x, kernel, offset = promote_dtype(x, kernel, offset, dtype=dense.dtype)
    # In half precision a sum over many rows would lose small terms.
    stats_dtype = jnp.promote_types(norm.param_dtype, jnp.float32)
    wide_dtype = jnp.promote_types(x.dtype, stats_dtype)
    wide_kernel = kernel.astype(wide_dtype)
    mean, var = projected_moments(x, wide_kernel, norm.statistics_axis())
    norm.update_running_statistics(mean + offset.astype(wide_dtype), var, x.shape)

    factor = lax.rsqrt(var + norm.epsilon)
    if norm.use_scale:
        factor = factor * _parameter(norm, "scale")
    # The offset of the dense layer moves the mean and is subtracted again with it.
    shift = -mean * factor
    if norm.use_bias:
        shift = _parameter(norm, "bias") + shift
    folded_kernel = (wide_kernel * along_channels(factor, 2)).astype(x.dtype)
    dtype = norm.dtype or jnp.result_type(x.dtype, norm.param_dtype)
    return (x @ folded_kernel).astype(dtype), shift


def _parameter(module: nn.Module, name: str) -> Array:
    """Read a parameter of a bound module, without the box of a partitioned one."""
    if not module.has_variable("params", name):
        raise ValueError(
            f"expected a parameter {name!r} of {'/'.join(module.path)} in 'params', got none. "
            f"Probably the variables belong to another module."
        )
    parameter: Array = nn.meta.unbox(module.get_variable("params", name))
    return parameter
