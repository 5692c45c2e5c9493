"""Normalize pixels for a network, in NumPy or in JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

__all__ = ["ArrayType", "normalize_pixels"]

ArrayType = TypeVar("ArrayType", np.ndarray, jax.Array)
"""A NumPy or a JAX array."""


def normalize_pixels(
    pixels: ArrayType,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = jnp.float32,
) -> ArrayType:
    """Normalize pixels: `(pixels / 255 - mean) / std`.

    Computes in float32, or in `dtype` if that is wider, and rounds to `dtype` at the end.

    Args:
        pixels: Values in 0 .. 255, `(..., channels)`.
        mean: Mean of the pixels divided by 255, per channel.
        std: Standard deviation of the pixels divided by 255, per channel.
        dtype: Type of the result.

    Returns:
        An array of the same shape and kind, of dtype `dtype`.
    """
    wide = jnp.promote_types(jnp.float32, dtype)
    scaled = pixels.astype(wide) / np.asarray(255, wide)
    return ((scaled - np.asarray(mean, wide)) / np.asarray(std, wide)).astype(dtype)
