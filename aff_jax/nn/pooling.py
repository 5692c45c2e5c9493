"""Poolings over the spatial axes."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["average_pool", "global_average", "max_pool"]


def global_average(
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch *ones channels"]:
    """Mean over the spatial axes, kept as axes of size one; `x` itself where it has none."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)


def average_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch out_height out_width channels"]:
    """Average over windows of `window` x `window` with the same stride, rounding sizes up.

    A window that hangs over the edge averages what it covers: `ceil_mode=True,
    count_include_pad=False` in PyTorch's and MXNet's words.
    """
    if window == 1:
        return x
    excess = [(0, -size % window) for size in x.shape[1:3]]
    shape = (window, window)
    pooled = nn.avg_pool(x, shape, strides=shape, padding=excess, count_include_pad=False)
    return pooled.astype(x.dtype)  # Flax divides by a count in single precision


def max_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch out_height out_width channels"]:
    """Maximum over 3x3 windows with stride 2, rounding sizes up; the margin of one never wins."""
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
