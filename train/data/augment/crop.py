"""Random crops of padded images."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Key

from train.data.augment.random_per_image import Images, image_keys

__all__ = ["pad_and_crop", "windows_by_selection", "windows_by_slices"]


def pad_and_crop(
    key: Key[Array, ""],
    images: Images,
    padding: int,
    first_row: ArrayLike = 0,
    fill: int = 0,
) -> Images:
    """Pad each image on all four sides, and crop a random window of the original size.

    The offset of the window is uniform in {0 .. 2 * padding}^2. The authors of Attentional Feature
    Fusion crop raw pixels, so the padding is black: call this before `normalize`.

    Args:
        key: Key of the step.
        images: Images of any dtype.
        padding: Number of pixels on each side; 0 changes nothing.
        first_row: Row of the first image in the global batch.
        fill: Value of the padding.

    Returns:
        Images of the same shape and dtype.

    Raises:
        ValueError: If the padding is negative.
    """
    if padding < 0:
        raise ValueError(f"expected a padding of at least 0 pixels, got {padding}.")
    if padding == 0:
        return images

    def draw_offset(row_key: Key[Array, ""]) -> Array:
        return jax.random.randint(row_key, (2,), 0, 2 * padding + 1)

    offsets = jax.vmap(draw_offset)(image_keys(key, images, first_row))
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, constant_values=fill)
    return jax.lax.platform_dependent(
        padded,
        offsets,
        tpu=lambda padded, offsets: windows_by_selection(padded, offsets, padding),
        default=lambda padded, offsets: windows_by_slices(padded, offsets, padding),
    )


def windows_by_slices(padded: Images, offsets: Int[Array, "batch 2"], padding: int) -> Images:
    """Take a window of each padded image with a slice of its own.

    Args:
        padded: Images, `(batch, height + 2 * padding, width + 2 * padding, channels)`.
        offsets: First row and column of each window, in {0 .. 2 * padding}.
        padding: Number of pixels on each side.

    Returns:
        Images, `(batch, height, width, channels)`.
    """
    _, height, width, channels = padded.shape
    size = (height - 2 * padding, width - 2 * padding, channels)

    def window(image: Array, offset: Array) -> Array:
        top, left = offset
        return jax.lax.dynamic_slice(image, (top, left, 0), size)

    return jax.vmap(window)(padded, offsets)


def windows_by_selection(padded: Images, offsets: Int[Array, "batch 2"], padding: int) -> Images:
    """Take a window of each padded image by selection among all offsets, first of rows.

    The windows are the same as from `windows_by_slices`. On a TPU, slices that differ per image run
    in a loop over the images. Here all images are shifted at once: `2 * padding + 1` times in each
    direction.

    Args:
        padded: As in `windows_by_slices`.
        offsets: As in `windows_by_slices`.
        padding: As in `windows_by_slices`.

    Returns:
        As in `windows_by_slices`.
    """
    windows = padded
    for axis in (1, 2):
        size = padded.shape[axis] - 2 * padding
        chosen = offsets[:, axis - 1, None, None, None]
        shifts = [
            jax.lax.slice_in_dim(windows, start, start + size, axis=axis)
            for start in range(2 * padding + 1)
        ]
        windows = shifts[0]
        for start, shifted in enumerate(shifts[1:], 1):
            windows = jnp.where(chosen == start, shifted, windows)
    return windows
