"""Sizes of a network that a checkpoint determines: its image channels and its classes."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from aff_jax.convert.mapping import list_entries
from aff_jax.convert.rules import Framework
from aff_jax.hosts.base import FIRST_LAYERS, HEAD
from aff_jax.inspection import Layer, Structure, inspect_module

__all__ = ["checkpoint_image_channels", "checkpoint_num_classes"]


def checkpoint_image_channels(
    arrays: Mapping[str, Any], module: nn.Module, framework: Framework
) -> int:
    """Find the number of image channels of a checkpoint.

    Args:
        arrays: Arrays by their names in the checkpoint.
        module: A network of `create_model`.
        framework: Framework of the checkpoint.

    Returns:
        Number of input channels of the first convolution, or 3 if the checkpoint does not have it.
    """
    entries = list_entries(inspect_module(module, ()), framework)
    for layer in FIRST_LAYERS:
        for entry in entries:
            found = arrays.get(entry.name)
            is_kernel = layer in entry.path and entry.path[-1] == "kernel"
            if is_kernel and found is not None and found.ndim == len(entry.shape):
                return int(found.shape[1])
    return 3


def checkpoint_num_classes(arrays: Mapping[str, Any], model: Any, framework: Framework) -> int:
    """Return the number of classes of a checkpoint.

    Args:
        arrays: Arrays of the checkpoint by name.
        model: The linen network, with any number of classes.
        framework: Framework whose names the checkpoint has.

    Returns:
        Size of the output of the head, or `model.num_classes` if the checkpoint has no head.
    """
    # The name of the head depends on the class of the network only, so no layers are needed.
    structure = Structure({(): Layer(model, 2)}, {})
    head = f"{framework.name_of((HEAD,), structure)}.weight"
    return int(arrays[head].shape[0] if head in arrays else model.num_classes)
