"""Checks of the arguments of `freeze`."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from aff_jax.differences import DifferentArraysError, list_differences

__all__ = ["check_batch_axes", "check_variables", "find_donated_input"]


def check_variables(
    model: nn.Module, expected: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    """Check that the variables have the names and shapes of `expected`.

    Args:
        model: The module, for the message.
        expected: Variables of the module, arrays or `jax.ShapeDtypeStruct` objects.
        variables: Variables to check. Collections that `expected` lacks are ignored.

    Raises:
        DifferentArraysError: If they differ.
    """

    def shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        collections = {name: tree.get(name, {}) for name in expected}
        leaves = traverse_util.flatten_dict(collections, sep="/")
        return {path: tuple(jnp.shape(leaf)) for path, leaf in leaves.items()}

    if differences := list_differences(shapes(expected), shapes(variables)):
        raise DifferentArraysError(
            f"the variables do not match this {type(model).__name__}",
            differences,
            "Pass all variables, as its init or aff_jax.load returns them. Probably these belong "
            "to another network, or 'batch_stats' is missing.",
        )


def check_batch_axes(
    apply: Callable[..., Any], variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> None:
    """Check that all inputs and results of `apply` have the batch as their first axis.

    Args:
        apply: Function that is called as `apply(variables, *inputs)`.
        variables: Variables, arrays or `jax.ShapeDtypeStruct` objects.
        inputs: Arrays or `jax.ShapeDtypeStruct` objects.

    Raises:
        ValueError: If first axes differ or are missing, so that the batch cannot be split.
    """
    results = jax.tree.leaves(jax.eval_shape(apply, variables, *inputs))
    shapes = [jnp.shape(x) for x in (*inputs, *results)]
    if len({shape[:1] for shape in shapes}) > 1 or not all(shapes):
        raise ValueError(
            f"devices and chunk_size: expected inputs and results with the batch as their first "
            f"axis, got shapes {shapes[: len(inputs)]} -> {shapes[len(inputs) :]}. Freeze the "
            f"submodule whose inputs and results have it, or omit both arguments."
        )


def find_donated_input(
    apply: Callable[..., Any], variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> int:
    """Return the position of the first input with the shape and dtype of the result.

    Args:
        apply: Function that is called as `apply(variables, *inputs)`.
        variables: Variables, arrays or `jax.ShapeDtypeStruct` objects.
        inputs: Arrays or `jax.ShapeDtypeStruct` objects.

    Returns:
        Position in `inputs`.

    Raises:
        ValueError: If there is no such input.
    """
    result = jax.eval_shape(apply, variables, *inputs)
    for position, x in enumerate(inputs):
        if (jnp.shape(x), jnp.result_type(x)) == (
            getattr(result, "shape", None),
            getattr(result, "dtype", None),
        ):
            return position
    raise ValueError(
        f"donate: expected an input with the shape and dtype of the result, got inputs "
        f"{[f'{jnp.result_type(x)}{list(jnp.shape(x))}' for x in inputs]} and a result "
        f"{jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', result)}. Probably the network "
        f"returns logits, or the inputs have another dtype than the computation. Omit donate."
    )
