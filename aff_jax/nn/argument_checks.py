"""Checks of the arguments of functions that take a module and its variables."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

__all__ = ["check_flags_by_name", "check_model_and_variables"]


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


def check_flags_by_name(call: str, model: nn.Module, inputs: Sequence[Any]) -> None:
    """Raise an error if the flag `train` of a module gets another value than True or False.

    Args:
        call: The function and its arguments, for the message.
        model: The module.
        inputs: Positional arguments of its `__call__`.

    Raises:
        TypeError: If the argument `train` is not a bool.
    """
    for name, value in zip(inspect.signature(model.__call__).parameters, inputs, strict=False):
        if name == "train" and not isinstance(value, bool):
            raise TypeError(
                f"{call}: expected the inputs of {type(model).__name__}, got {value!r} where it "
                f"takes the flag train. Pass other arguments by name, as in `classes=7`."
            )
