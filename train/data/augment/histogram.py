"""Histograms and look-up tables of 8-bit images, each in the way that is fast on its platform.

On accelerators all images are changed at once under `vmap`. There a scatter or a gather of single
values is slow, and a TPU has a matrix unit that can do the work of both.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Int, UInt8

__all__ = [
    "apply_table",
    "apply_table_by_product",
    "count_below",
    "count_below_by_comparison",
    "count_below_by_product",
    "count_below_by_scatter",
]


def count_below(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """Count the pixels below each value.

    Args:
        channel: uint8 `(pixels,)`, of at most 2^24 pixels.

    Returns:
        int32 `(256,)`, the number of pixels below 0, 1, ... 255.
    """
    return jax.lax.platform_dependent(
        channel,
        cpu=count_below_by_scatter,
        tpu=count_below_by_product,
        default=count_below_by_comparison,
    )


def apply_table(
    table: UInt8[Array, "256"], channel: UInt8[Array, " pixels"]
) -> UInt8[Array, " pixels"]:
    """Return `table[channel]`.

    Args:
        table: uint8 `(256,)`.
        channel: uint8 `(pixels,)`.

    Returns:
        uint8 `(pixels,)`.
    """
    return jax.lax.platform_dependent(
        table, channel, tpu=apply_table_by_product, default=lambda table, channel: table[channel]
    )


def count_below_by_scatter(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """Count the pixels below each value with one sequential addition per pixel.

    Args:
        channel: As in `count_below`.

    Returns:
        As in `count_below`.
    """
    counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
    return jnp.cumsum(counts) - counts


def count_below_by_comparison(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """Count the pixels below each value with 256 parallel comparisons per pixel.

    The counts are the same as from `count_below_by_scatter`. Scatter is slow on accelerators.

    Args:
        channel: As in `count_below`.

    Returns:
        As in `count_below`.
    """
    return jnp.sum(channel[:, None] < jnp.arange(256), axis=0, dtype=jnp.int32)


def count_below_by_product(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """Count the pixels below each value with a matrix product.

    The counts are the same as from `count_below_by_scatter`. A value is split into two digits of
    base 16. The counts are the product of the one-hot codes of both digits. The codes take 32
    comparisons per pixel instead of 256, and the product runs on the matrix unit of a TPU.

    Args:
        channel: As in `count_below`.

    Returns:
        As in `count_below`. Counts up to 2^24 are exact in float32.
    """
    high, low = _one_hot_digits(channel)
    counts = jnp.einsum("ph,pl->hl", high, low, preferred_element_type=jnp.float32)
    counts = counts.reshape(256).astype(jnp.int32)
    return jnp.cumsum(counts) - counts


def apply_table_by_product(
    table: UInt8[Array, "256"], channel: UInt8[Array, " pixels"]
) -> UInt8[Array, " pixels"]:
    """Return `table[channel]`, computed with a matrix product instead of a gather.

    Args:
        table: As in `apply_table`.
        channel: As in `apply_table`.

    Returns:
        As in `apply_table`.
    """
    high, low = _one_hot_digits(channel)
    rows = table.reshape(16, 16).astype(low.dtype)
    # Exact: bfloat16 has all integers up to 256, and each sum has one term that is not zero.
    found = jnp.einsum("pl,hl->ph", low, rows, preferred_element_type=jnp.float32)
    return jnp.sum(high * found, axis=1).astype(jnp.uint8)


def _one_hot_digits(
    channel: UInt8[Array, " pixels"],
) -> tuple[BFloat16[Array, "pixels 16"], BFloat16[Array, "pixels 16"]]:
    """Return the one-hot codes of both digits of base 16 of each value."""
    high, low = channel >> 4, channel & 15
    return jax.nn.one_hot(high, 16, dtype=jnp.bfloat16), jax.nn.one_hot(low, 16, dtype=jnp.bfloat16)
