"""Rematerialization: recompute activations in the backward pass instead of keeping them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array

from aff_jax.lookup import look_up

__all__ = ["apply_block", "rematerialize"]

POLICIES = {
    name: getattr(jax.checkpoint_policies, name)
    for name in ("dots_saveable", "dots_with_no_batch_dims_saveable")
}
"""What `remat` may be told to keep, by JAX's names: the results of products."""


def rematerialize(function: Callable[..., Any], remat: bool | str) -> Callable[..., Any]:
    """`function` of a module and arrays; with `remat` its insides are not kept for the gradient.

    They are computed a second time when they are needed: all with True, and but for the results of
    products with "dots_saveable" and "dots_with_no_batch_dims_saveable". Names, variables and
    results are the same.

    Raises:
        ValueError: another name.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    if not remat:
        return function
    policy = None if remat is True else look_up(POLICIES, "remat policy", remat)
    lean: Callable[..., Any] = nn.remat(function, policy=policy)
    return lean


def apply_block(block: nn.Module, x: Array, train: bool, remat: bool | str) -> Array:
    """`block(x, train)`, its activations kept for the gradient or not, as `rematerialize` does."""

    def apply(block: nn.Module, x: Array) -> Any:
        return block(x, train)

    result: Array = rematerialize(apply, remat)(block, x)
    return result
