"""Normalization layers of any kind, called in one way."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from aff_jax.lookup import accepted_fields

__all__ = ["NormFactory", "make_norm"]

NormFactory = Callable[..., Callable[..., Array]]
"""A function that makes a normalization layer: a class, or a `functools.partial` of it.

`aff_jax.BatchNorm`, the norms of `flax.linen`, and modules of your own that are called as
`(x, train=train)`, `(x, use_running_average=not train)` or `(x)`.
"""


def make_norm(norm: NormFactory | None, *, name: str, **fields: Any) -> Callable[..., Array]:
    """Make a normalization layer that is called as `(x, train=train)`.

    Args:
        norm: Function that makes the layer. None returns the identity.
        name: Name of the layer.
        **fields: `dtype`, `param_dtype`, and for some layers `use_scale` and `use_bias`. The layer
            gets those that it has.

    Returns:
        The layer itself if its `__call__` has the argument `train`, and otherwise a function that
        calls it. `use_running_average`, as Flax's batch norm has it, is `not train`. Layers with
        neither argument, such as `flax.linen.GroupNorm`, compute the same in training.
    """
    if norm is None:
        return lambda x, train=False: x
    layer: Callable[..., Array] = norm(name=name, **accepted_fields(norm, fields))
    arguments = inspect.signature(type(layer).__call__).parameters
    takes_any = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    if "train" in arguments or takes_any:
        return layer
    if "use_running_average" in arguments:
        return lambda x, train=False: layer(x, use_running_average=not train)
    return lambda x, train=False: layer(x)
