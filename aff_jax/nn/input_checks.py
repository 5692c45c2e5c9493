"""Checks of the inputs of a module, with errors that name the likely cause."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["check_floating", "check_images", "check_input"]


def check_floating(module: nn.Module, **arrays: Array) -> None:
    """Raise an error if an array is not floating point.

    Args:
        module: The module that was called, for the message.
        **arrays: The arrays, by argument name.

    Raises:
        TypeError: If an array is not floating point. The message names the module, the argument,
            its dtype and its shape.
    """
    for name, array in arrays.items():
        dtype = jnp.asarray(array).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{type(module).__name__}: expected floating-point {name}, got "
                f"{dtype} of shape {jnp.shape(array)}. Probably these are raw pixels: "
                f"convert and normalize them first, as in `{name}.astype(jnp.float32) / 255`."
            )


def check_input(module: nn.Module, **arrays: Array) -> None:
    """Raise an error if an array is not a floating-point `(batch, *spatial, channels)`.

    Args:
        module: The module that was called, for the message.
        **arrays: The arrays, by argument name.

    Raises:
        TypeError: If an array is not floating point.
        ValueError: If an array has fewer than two axes.
    """
    check_floating(module, **arrays)
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ValueError(
                f"{type(module).__name__}: expected {name} of shape (batch, *spatial, channels), "
                f"got {array.shape}. Probably the batch axis is missing: use {name}[None]."
            )


def check_images(module: nn.Module, images: Array) -> None:
    """Raise an error if `images` are not floating-point `(batch, height, width, channels)`.

    Args:
        module: The module that was called, for the message.
        images: The array.

    Raises:
        TypeError: If `images` are not floating point.
        ValueError: If `images` do not have four axes.
    """
    check_floating(module, images=images)
    if images.ndim != 4:
        raise ValueError(
            f"{type(module).__name__}: expected images of shape (batch, height, width, channels), "
            f"got {images.shape}. Probably the batch axis is missing (use images[None]) or gray "
            f"images have no channel axis (use images[..., None])."
        )
