"""Inputs that a module refuses, with what probably went wrong."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["check_floating", "check_images", "check_input"]


def check_floating(module: nn.Module, **arrays: Array) -> None:
    """Refuse arrays that are not floating point.

    Raises:
        TypeError: names the module, the argument and its dtype.
    """
    for name, array in arrays.items():
        dtype = jnp.asarray(array).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{type(module).__name__}: expected floating-point {name}, got "
                f"{dtype} of shape {jnp.shape(array)}. Probably raw pixels: "
                f"convert and normalise them first, as in `{name}.astype(jnp.float32) / 255`."
            )


def check_input(module: nn.Module, **arrays: Array) -> None:
    """Refuse what is not a floating-point `(batch, *spatial, channels)`.

    Raises:
        TypeError: an array is not floating point.
        ValueError: an array has fewer than two axes.
    """
    check_floating(module, **arrays)
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ValueError(
                f"{type(module).__name__}: expected {name} of shape (batch, *spatial, channels), "
                f"got {array.shape}. Probably the batch axis is missing: use {name}[None]."
            )


def check_images(module: nn.Module, images: Array) -> None:
    """Refuse what is not a floating-point `(batch, height, width, channels)`.

    Raises:
        TypeError: `images` are not floating point.
        ValueError: `images` do not have four axes.
    """
    check_floating(module, images=images)
    if images.ndim != 4:
        raise ValueError(
            f"{type(module).__name__}: expected images of shape (batch, height, width, channels), "
            f"got {images.shape}. Probably the batch axis is missing (use images[None]) or grey "
            f"images have no channel axis (use images[..., None])."
        )
