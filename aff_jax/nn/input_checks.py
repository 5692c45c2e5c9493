"""Checks of inputs and other arguments, with errors that name the likely cause."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

__all__ = [
    "check_channels",
    "check_floating",
    "check_images",
    "check_input",
    "check_model_and_variables",
    "check_positional_train",
    "check_train",
]


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
                f"{dtype} of shape {jnp.shape(array)}. Probably these are raw pixels: normalize "
                f"them as in training, with `aff_jax.load(path).image_task.preprocess(image)` or "
                f"`({name} / 255 - mean) / std`."
            )


def check_input(module: nn.Module, **arrays: Array) -> None:
    """Raise an error if an array is not a floating-point `(batch, *spatial, channels)`.

    Args:
        module: The module that was called, for the message.
        **arrays: The arrays, by argument name.

    Raises:
        TypeError: If an array is not floating point.
        ValueError: If an array has fewer than two axes, or an axis other than the batch is empty.
    """
    check_floating(module, **arrays)
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ValueError(
                f"{type(module).__name__}: expected {name} of shape (batch, *spatial, channels), "
                f"got {array.shape}. Probably the batch axis is missing: use {name}[None]."
            )
        _check_not_empty(module, name, array.shape)


def check_images(module: nn.Module, images: Array) -> None:
    """Raise an error if `images` are not floating-point `(batch, height, width, channels)`.

    Args:
        module: The module that was called, for the message.
        images: The array.

    Raises:
        TypeError: If `images` are not floating point.
        ValueError: If `images` do not have four axes, an axis other than the batch is empty, or
            they are squares with one or three channels on axis 1, unless the variables of the
            module take so many channels.
    """
    check_floating(module, images=images)
    if images.ndim != 4:
        raise ValueError(
            f"{type(module).__name__}: expected images of shape (batch, height, width, channels), "
            f"got {images.shape}. Probably the batch axis is missing (use images[None]) or gray "
            f"images have no channel axis (use images[..., None])."
        )
    _check_not_empty(module, "images", images.shape)
    _, height, width, channels = images.shape
    if height in (1, 3) and width == channels > 4 and not _takes_channels(module, channels):
        raise ValueError(
            f"{type(module).__name__}: expected images of shape (batch, height, width, channels), "
            f"got {images.shape}. Probably they have the channels first, as in PyTorch: move them, "
            f"as in `jnp.moveaxis(images, 1, -1)`."
        )


def _takes_channels(module: nn.Module, channels: int) -> bool:
    """Return whether a convolution of a bound module has this number of input channels."""
    params = module.variables.get("params", {}) if module.scope is not None else {}
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4]
    return any(kernel.shape[-2] == channels for kernel in kernels)


def _check_not_empty(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    if 0 in shape[1:]:
        raise ValueError(
            f"{type(module).__name__}: expected {name} with at least one position and one channel, "
            f"got shape {shape}, whose mean is not a number. Probably it was cropped or pooled to "
            f"nothing."
        )


def check_channels(where: str, shape: tuple[int, ...], channels: int) -> None:
    """Raise an error if an input has another number of channels than the variables of a layer.

    Args:
        where: Name of the layer, for the message.
        shape: Shape of the input.
        channels: Number of channels of the variables.

    Raises:
        ValueError: If the last axis of `shape` is not `channels`.
    """
    if shape[-1] != channels:
        if len(shape) > 2 and shape[1] == channels:
            raise ValueError(
                f"{where}: expected {channels} channels on the last axis, got an input of shape "
                f"{shape}. Probably it has the channels first, as in PyTorch: move them, as in "
                f"`jnp.moveaxis(x, 1, -1)`."
            )
        cause = (
            "Probably the input belongs to another layer or has the channels first, as in PyTorch, "
            "or the variables belong to another module."
        )
        if shape[-1] == 1 and channels == 3:
            cause = (
                f"Probably the network was made for color images and these are gray: repeat the "
                f"channel, as in `jnp.repeat(images, {channels}, axis=-1)`, or initialize the "
                f"network with images of {shape[-1]} channels."
            )
        raise ValueError(
            f"{where}: expected {channels} channels, as its variables have, got an input of shape "
            f"{shape}. {cause}"
        )


def check_model_and_variables(call: str, model: Any, variables: Any) -> None:
    """Raise an error if the arguments are not a module and a dict, for example because swapped.

    Args:
        call: The function and its arguments, for the message.
        model: Argument that must be a linen module.
        variables: Argument that must be a mapping.

    Raises:
        TypeError: If one of them is of another type.
    """
    if isinstance(model, nn.Module) and isinstance(variables, Mapping):
        return
    if isinstance(model, type) and issubclass(model, nn.Module):
        cause = f"Pass a module, {model.__name__}(), instead of its class."
    elif isinstance(model, Mapping | str) or isinstance(variables, nn.Module):
        cause = "Probably the arguments are swapped."
    else:
        cause = "Variables are those that `model.init` or `aff_jax.load` return."
    raise TypeError(
        f"{call}: expected a linen module and its variables, a dict with the collection params, "
        f"got a {type(model).__name__} as the module and a {type(variables).__name__} as the "
        f"variables. {cause}"
    )


def check_train(module: nn.Module, train: object) -> None:
    """Raise an error if the argument `train` of a module is not True or False.

    Args:
        module: The module that was called, for the message.
        train: The argument.

    Raises:
        TypeError: If it is an array, a traced value, or something else.
    """
    if not isinstance(train, bool | np.bool_):
        raise TypeError(
            f"{type(module).__name__}: expected train to be True or False, got "
            f"{type(train).__name__}. Probably an array was passed in its place, or train is an "
            f"argument of a jitted function: pass arrays in the order of `__call__`, and make "
            f"train static, as in `jax.jit(f, static_argnames='train')`."
        )


def check_positional_train(call: str, model: nn.Module, inputs: Sequence[Any]) -> None:
    """Raise an error if a positional input of a module takes the place of its flag `train`.

    Args:
        call: The function and its arguments, for the message.
        model: The module.
        inputs: Positional arguments of its `__call__`.

    Raises:
        TypeError: If the argument `train` is not a bool.
    """
    for name, value in zip(inspect.signature(model.__call__).parameters, inputs, strict=False):
        if name == "train" and not isinstance(value, bool | np.bool_):
            raise TypeError(
                f"{call}: expected the inputs of {type(model).__name__}, got {value!r} where it "
                f"takes the flag train. Pass other arguments by name, as in `classes=7`."
            )
