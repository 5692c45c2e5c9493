"""Pooling over the spatial axes."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["average_pool", "global_average", "max_pool"]


def global_average(
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch *ones channels"]:
    """Compute the mean over the spatial axes and keep these as axes of size one.

    Args:
        x: Array `(batch, *spatial, channels)`. Without spatial axes it is returned unchanged.

    Returns:
        Array `(batch, 1, ..., 1, channels)`, with as many axes as `x`.
    """
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)


def average_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch out_height out_width channels"]:
    """Average over windows of `window` x `window`, with the same stride.

    A window that extends beyond the edge averages the values inside: PyTorch's and MXNet's
    `ceil_mode=True, count_include_pad=False`.

    Args:
        x: Array `(batch, height, width, channels)`.
        window: Height and width of a window, and the stride.

    Returns:
        Array `(batch, ceil(height / window), ceil(width / window), channels)`.
    """
    if window == 1:
        return x
    excess = [(0, -size % window) for size in x.shape[1:3]]
    shape = (window, window)
    pooled = nn.avg_pool(x, shape, strides=shape, padding=excess, count_include_pad=False)
    return pooled.astype(x.dtype)  # Flax divides by a float32 count, which promotes bfloat16


def max_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch out_height out_width channels"]:
    """Take the maximum over 3x3 windows with stride 2 and a padding of one.

    Args:
        x: Array `(batch, height, width, channels)`.

    Returns:
        Array `(batch, ceil(height / 2), ceil(width / 2), channels)`.
    """
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
