"""What a linen module is made of: its layers by path, and its variables in shape and dtype."""

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
"""Names of submodules from the outside in; the last may be that of a variable."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A module inside the inspected one. `spatial_axes` are those of its first input."""

    module: nn.Module
    spatial_axes: int


@dataclasses.dataclass(frozen=True)
class Structure:
    """`layers` by path, the inspected module at (); `variables` as `jax.ShapeDtypeStruct`s."""

    layers: Mapping[Path, Layer]
    variables: Mapping[str, Any]

    def leaves(self, collection: str) -> list[tuple[Path, Any]]:
        """Paths, within the collection, and `jax.ShapeDtypeStruct`s of its variables."""
        return list(traverse_util.flatten_dict(dict(self.variables.get(collection, {}))).items())

    @property
    def norms(self) -> set[Path]:
        """Paths of the batch norms: whatever keeps a mean."""
        return {path[:-1] for path, _ in self.leaves("batch_stats") if path[-1] == "mean"}


def example_images(module: nn.Module, channels: int = 3) -> tuple[Array]:
    """What a network of `create_model` can be called with.

    Raises:
        ValueError: another module.
    """
    if type(module) not in host_classes():
        raise ValueError(
            f"expected example inputs for a {type(module).__name__}, got none. Only the "
            f"networks of create_model know what they are called with: give arrays of the "
            f"shapes that this module takes, as in `jnp.zeros((1, 8, 8, 64))`."
        )
    return (jnp.zeros((2, 64, 64, channels)),)


def inspect_module(
    module: nn.Module, example_inputs: tuple[Any, ...], channels: int = 3
) -> Structure:
    """The structure that `module` has when it is called with inputs of those shapes.

    Nothing is computed. `example_inputs` may be left out for a network of `create_model`, which is
    then given images of so many `channels`.

    Raises:
        ValueError: no example inputs for another module.
    """
    example_inputs = example_inputs or example_images(module, channels)
    layers: dict[Path, Layer] = {}

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__":
            first = next((x for x in (*args, *kwargs.values()) if hasattr(x, "ndim")), None)
            axes = 0 if first is None else max(0, first.ndim - 2)
            found = context.module
            layers.setdefault(tuple(found.path), Layer(found, axes))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        # Inputs are no arguments here: flags such as `train` are to stay plain Python values.
        variables = jax.eval_shape(lambda key: module.init(key, *example_inputs), jax.random.key(0))
    return Structure(layers, variables)


def image_channels(variables: Mapping[str, Any]) -> int:
    """Channels of the images that a host with these variables takes; 3 where none can be read."""
    for path, leaf in traverse_util.flatten_dict(dict(variables.get("params", {}))).items():
        if path[-1] == "kernel" and {"deep_stem1", "stem1", "stem"} & set(path):
            return int(leaf.shape[-2])
    return 3
