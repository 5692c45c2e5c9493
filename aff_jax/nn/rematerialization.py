"""Rematerialization: recompute activations in the backward pass instead of keeping them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from aff_jax.lookup import look_up

__all__ = ["rematerialize"]

_POLICIES = {
    name: getattr(jax.checkpoint_policies, name)
    for name in ("dots_saveable", "dots_with_no_batch_dims_saveable")
}
"""Policies of `jax.checkpoint_policies` that the field `remat` may name."""


def rematerialize(function: Callable[..., Any], remat: bool | str) -> Callable[..., Any]:
    """Wrap a function of a module and arrays so that gradients recompute its activations.

    Names, variables and results stay the same.

    Args:
        function: Function that is called as `function(module, *arrays)`.
        remat: False returns `function` unchanged. True recomputes all activations. "dots_saveable"
            and "dots_with_no_batch_dims_saveable" keep the results of matrix products.

    Returns:
        Function with the arguments and results of `function`.

    Raises:
        ValueError: If the policy is unknown.

    References:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    if not remat:
        return function
    policy = None if remat is True else look_up(_POLICIES, "remat policy", remat)
    wrapped: Callable[..., Any] = nn.remat(function, policy=policy)
    return wrapped
