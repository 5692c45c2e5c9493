"""The structure of a linen module: its layers by path, and shapes and dtypes of its variables."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array

from aff_jax.hosts.registry import host_classes

__all__ = ["Layer", "Path", "Structure", "example_images", "image_channels", "inspect_module"]

Path = tuple[str, ...]
"""Names of submodules from the outermost to the innermost. The last may be that of a variable."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A submodule of the inspected module.

    Attributes:
        module: The submodule.
        spatial_axes: Number of spatial axes of its first input.
    """

    module: nn.Module
    spatial_axes: int


@dataclasses.dataclass(frozen=True)
class Structure:
    """Layers and variables of a module.

    Attributes:
        layers: Layers by path. The path of the inspected module is `()`.
        variables: Variables as `jax.ShapeDtypeStruct`, by collection.
    """

    layers: Mapping[Path, Layer]
    variables: Mapping[str, Any]

    def leaves(self, collection: str) -> list[tuple[Path, Any]]:
        """Return pairs of a path within the collection and a `jax.ShapeDtypeStruct`."""
        return list(traverse_util.flatten_dict(dict(self.variables.get(collection, {}))).items())

    @property
    def norms(self) -> set[Path]:
        """Paths of the batch norms, which are the layers with a running mean."""
        return {path[:-1] for path, _ in self.leaves("batch_stats") if path[-1] == "mean"}


def example_images(module: nn.Module, channels: int = 3) -> tuple[Array]:
    """Return example inputs for a network of `create_model`.

    Args:
        module: The network.
        channels: Number of channels of the images.

    Returns:
        A tuple with one array of zeros, of shape `(2, 64, 64, channels)`.

    Raises:
        ValueError: If the module is not a network of `create_model`.
    """
    if type(module) not in host_classes():
        raise ValueError(
            f"expected example inputs for a {type(module).__name__}, got none. They can only be "
            f"left out for the networks of create_model, which take images. Give arrays of the "
            f"shapes that this module takes, as in `jnp.zeros((1, 8, 8, 64))`."
        )
    return (jnp.zeros((2, 64, 64, channels)),)


def inspect_module(
    module: nn.Module, example_inputs: tuple[Any, ...], channels: int = 3
) -> Structure:
    """Return the structure of a module without computing anything.

    Args:
        module: The module.
        example_inputs: Arguments of its `__call__`, of which only shapes and dtypes matter. May be
            empty for a network of `create_model`.
        channels: Number of channels of the images where `example_inputs` is empty.

    Returns:
        The layers that are called, and the variables.

    Raises:
        ValueError: If `example_inputs` is empty and the module is no network of `create_model`.
    """
    example_inputs = example_inputs or example_images(module, channels)
    layers: dict[Path, Layer] = {}

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__":
            first = next((x for x in (*args, *kwargs.values()) if hasattr(x, "ndim")), None)
            axes = 0 if first is None else max(0, first.ndim - 2)
            layer = Layer(context.module, axes)
            layers.setdefault(tuple(context.module.path), layer)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        # The inputs are not arguments of the traced function, so that flags such as `train` stay
        # Python values.
        variables = jax.eval_shape(lambda key: module.init(key, *example_inputs), jax.random.key(0))
    return Structure(layers, variables)


def image_channels(variables: Mapping[str, Any]) -> int:
    """Return the number of image channels of a host with these variables, or 3 if unknown."""
    for path, leaf in traverse_util.flatten_dict(dict(variables.get("params", {}))).items():
        if path[-1] == "kernel" and {"deep_stem1", "stem1", "stem"} & set(path):
            return int(leaf.shape[-2])
    return 3
