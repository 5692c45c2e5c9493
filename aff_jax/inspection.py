"""The structure of a linen module: its layers by path, and shapes and dtypes of its variables."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array

from aff_jax.hosts.base import is_in_first_layer
from aff_jax.hosts.registry import model_classes

__all__ = [
    "Layer",
    "ModulePath",
    "Structure",
    "count_flops",
    "count_parameters",
    "example_images",
    "image_channels",
    "inspect_module",
]

ModulePath = tuple[str, ...]
"""Names of submodules from the outermost to the innermost. The last may name a variable."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A submodule of the inspected module.

    Attributes:
        module: The submodule.
        spatial_axes: Number of spatial axes of its first input.
        shapes: Shapes of its variables as it sees them, by collection and path within it. Inside
            of `nn.scan` or `nn.vmap` they are the shapes for one layer of the stack.
    """

    module: nn.Module
    spatial_axes: int
    shapes: Mapping[ModulePath, tuple[int, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Structure:
    """Layers and variables of a module.

    Attributes:
        layers: Layers by path. The path of the inspected module is `()`.
        variables: Variables as `jax.ShapeDtypeStruct`, by collection.
    """

    layers: Mapping[ModulePath, Layer]
    variables: Mapping[str, Any]

    def leaves(self, collection: str) -> list[tuple[ModulePath, Any]]:
        """List the variables of a collection.

        Args:
            collection: Name of the collection, such as "params".

        Returns:
            Pairs of a path within the collection and a `jax.ShapeDtypeStruct`. The list is empty
            if the module has no such collection.
        """
        return list(traverse_util.flatten_dict(dict(self.variables.get(collection, {}))).items())

    @property
    def norms(self) -> set[ModulePath]:
        """Return the paths of the batch norms, which are the layers with a running mean."""
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
    if type(module) not in model_classes():
        raise ValueError(
            f"expected example inputs for {type(module).__name__}, got none. They can only be "
            f"left out for the networks of create_model, which take images. Pass arrays of the "
            f"shapes that this module takes as the last positional arguments, one for each "
            f"argument of its `__call__`: for an AFF on 64 channels, `x, y` with "
            f"`x = y = jnp.zeros((1, 8, 8, 64))`."
        )
    return (jnp.zeros((2, 64, 64, channels)),)


def inspect_module(
    module: nn.Module,
    example_inputs: tuple[Any, ...],
    channels: int = 3,
    kwargs: Mapping[str, Any] | None = None,
) -> Structure:
    """Trace the initialization of a module and return its structure.

    Args:
        module: The module.
        example_inputs: Arguments of its `__call__`. Only the shapes and dtypes of arrays matter.
            May be empty for a network of `create_model`, or if `kwargs` has all arguments.
        channels: Number of channels of the images if they are not given.
        kwargs: Keyword arguments of its `__call__`.

    Returns:
        The layers that are called, and the variables.

    Raises:
        ValueError: If there are neither `example_inputs` nor `kwargs`, and the module is not a
            network of `create_model`.
    """
    kwargs = kwargs or {}
    needs_images = type(module) in model_classes() and "images" not in kwargs
    if not example_inputs and (needs_images or not kwargs):
        example_inputs = example_images(module, channels)
    layers: dict[ModulePath, Layer] = {}

    def record(call: Any, args: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
        path = tuple(context.module.path)
        if context.method_name != "__call__":
            return call(*args, **named)
        # The first call of a module counts. An outer call begins before the ones inside of it.
        is_first = path not in layers
        if is_first:
            first = next((x for x in (*args, *named.values()) if hasattr(x, "ndim")), None)
            axes = 0 if first is None else max(0, first.ndim - 2)
            layers[path] = Layer(context.module, axes)
        output = call(*args, **named)
        if is_first:  # `init` creates the variables in the call
            seen = traverse_util.flatten_dict(dict(context.module.variables))
            shapes = {
                key: tuple(leaf.shape) for key, leaf in seen.items() if hasattr(leaf, "shape")
            }
            layers[path] = dataclasses.replace(layers[path], shapes=shapes)
        return output

    with nn.intercept_methods(record):
        # The inputs are not arguments of the traced function, so that flags such as `train` stay
        # Python values.
        variables = jax.eval_shape(
            lambda key: module.init(key, *example_inputs, **kwargs), jax.random.key(0)
        )
    return Structure(layers, variables)


def image_channels(variables: Mapping[str, Any]) -> int:
    """Return the number of image channels that a host expects.

    Args:
        variables: Variables of the host.

    Returns:
        Number of input channels of the first convolution of the stem, or 3 if there is no stem.
    """
    for path, leaf in traverse_util.flatten_dict(dict(variables.get("params", {}))).items():
        if path[-1] == "kernel" and is_in_first_layer(path):
            return int(leaf.shape[-2])
    return 3


def count_parameters(params: Any) -> int:
    """Return the number of trainable values.

    Args:
        params: Collection "params", with arrays or `jax.ShapeDtypeStruct` as leaves.

    Returns:
        Sum of the sizes of all leaves.
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_flops(program: jax.stages.Lowered | jax.stages.Compiled) -> float:
    """Return the number of floating-point operations of a program, as XLA counts them.

    Args:
        program: The program, such as `jax.jit(model.apply).lower(variables, images)`. It need not
            be compiled. Compiled, it may have fewer operations.

    Returns:
        The number of operations. A multiply-add is two. NaN if XLA does not report it.
    """
    cost = program.cost_analysis() or {}
    return float(cost.get("flops", math.nan))
