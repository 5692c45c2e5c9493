"""Adapt the first layer of a network to images with another number of channels."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array

from aff_jax.hosts.base import is_in_first_layer
from aff_jax.inspection import image_channels

__all__ = ["adapt_channels"]


def adapt_channels(variables: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Adapt the first convolution of a host to images with another number of channels.

    The kernel is summed over its input channels for images with one channel. For more channels it
    is repeated and scaled, so that the sum over the input channels keeps its size::

        kernel'[..., i, :] = kernel[..., i mod old, :] * old / new

    The statistics of an input norm are averaged or repeated.

    Args:
        variables: Variables of a network of `create_model`.
        channels: Number of channels of the new images.

    Returns:
        The new variables. Only the first layers differ.

    Raises:
        ValueError: If `channels` is less than 1.

    References:
        timm, `adapt_input_conv` in timm/models/_manipulate.py.
    """
    if channels < 1:
        raise ValueError(f"expected at least one channel, got {channels}.")
    old = image_channels(variables)
    flat = traverse_util.flatten_dict(dict(variables))
    for path, leaf in flat.items():
        if not is_in_first_layer(path) or old == channels:
            continue
        if path[-1] == "kernel" and leaf.shape[-2] == old:
            kernel = _spread(leaf, channels, -2)
            flat[path] = (
                jnp.sum(leaf, -2, keepdims=True) if channels == 1 else kernel * (old / channels)
            )
        elif "input_norm" in path:
            flat[path] = (
                jnp.mean(leaf, keepdims=True) if channels == 1 else _spread(leaf, channels, -1)
            )
    return traverse_util.unflatten_dict(flat)


def _spread(array: Array, size: int, axis: int) -> Array:
    """Repeat an array along an axis, up to a size."""
    repeated = jnp.concatenate([array] * math.ceil(size / array.shape[axis]), axis)
    return jnp.take(repeated, jnp.arange(size), axis)
