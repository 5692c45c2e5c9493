"""The base class of the public modules: their fields are checked, comparable and hashable."""

import dataclasses
import functools
import inspect
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.comparable_partial import make_comparable
from aff_jax.lookup import unknown_name

__all__ = ["CheckedModule"]

_HINTS = {
    "activation": "Pass the function itself, such as `flax.linen.relu`.",
    "norm": "Pass a class or a functools.partial of it, such as `aff_jax.BatchNorm`.",
    "remat": 'A string is the name of a policy, such as "dots_saveable".',
    "scales": 'One scale is ("local",).',
}
"""Advice for a wrong value of a field whose default does not show the kind of values."""

_OPEN_AFF_FIELDS = {
    "r": "The r of open-aff is `reduction` here.",
    "channels": "Leave the number of channels out: the inputs determine it.",
}
"""Advice for the names of open-aff's arguments."""

# `typing.Self` is the same, but run-time checks of types need it in a decorated class.
Module = TypeVar("Module", bound="CheckedModule")


class CheckedModule(nn.Module):
    """Base class of the public modules.

    Modules that are made in the same way are equal and have the same hash, including deep copies.
    Therefore lists in fields become tuples, dicts are frozen, and partials become comparable. A
    value of a wrong type is an error when the module is made.
    """

    def __new__(cls: type[Module], *positional: Any, **fields: Any) -> Module:
        """Raise TypeError for unknown fields or too many positional ones, and list the fields."""
        _check_arguments(cls, positional, fields)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Make the fields comparable and check their types.

        Raises:
            TypeError: If a field has a value of a wrong type.
        """
        cls: Any = type(self)
        annotations = _annotations(cls)
        for field in dataclasses.fields(self):
            if field.name in annotations:
                value = make_comparable(getattr(self, field.name))
                object.__setattr__(self, field.name, value)
                _check_field(self, field, annotations[field.name])
        super().__post_init__()

    def __deepcopy__(self: Module, memo: dict[int, Any]) -> Module:
        """Return a module with the same fields.

        They are immutable, and a deep copy of a jitted function does not equal the function.
        """
        return self.clone()


def _check_arguments(
    cls: type[nn.Module], positional: Collection[object], by_name: Collection[str]
) -> None:
    """Raise an error if fields of a module are given without their names, or are unknown.

    Args:
        cls: Class of the module.
        positional: Positional arguments of the class.
        by_name: Names of its keyword arguments.

    Raises:
        TypeError: If there are any. The message lists the fields.
    """
    fields = [f for f in dataclasses.fields(cls) if f.name not in ("parent", "name")]
    known = [field.name for field in fields]
    if len(positional) > sum(not field.kw_only for field in fields):
        # The fields that the class lists itself come first, in its order.
        names = [name for name in inspect.get_annotations(cls) if name in known]
        names = list(dict.fromkeys([*names, *known]))
        raise TypeError(
            f"{cls.__name__} takes its fields by name, as in {cls.__name__}({names[0]}=...), got "
            f"{', '.join(map(repr, positional))}. Its fields are {', '.join(names)}. If the first "
            f"is a number of channels, as in open-aff, leave it out: the inputs determine it."
        )
    # A subclass may have parameters that are not fields.
    parameters = inspect.signature(cls.__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in by_name:
        if name not in parameters:
            message = unknown_name(f"field of {cls.__name__}:", name, known)
            raise TypeError(f"{message} {_OPEN_AFF_FIELDS.get(name, '')}".rstrip())


@functools.cache
def _annotations(cls: Any) -> dict[str, Any]:
    """Return the types of the fields that a user sets."""
    try:
        annotations = get_type_hints(cls)
    except NameError:  # a subclass has annotations that exist for the type checker only
        return {}
    return {name: annotations[name] for name in annotations if name not in ("parent", "name")}


def _check_field(module: nn.Module, field: "dataclasses.Field[Any]", annotation: Any) -> None:
    """Raise an error if the value of a field is not of its annotated type."""
    value = getattr(module, field.name)
    if _accepts(annotation, value):
        return
    hint = _HINTS.get(field.name, "")
    if not (hint or callable(field.default) or field.default is dataclasses.MISSING):
        hint = f"The default is {field.default!r}."
    raise TypeError(
        f"{type(module).__name__}: expected {_accepted_by(annotation)} as {field.name}, got "
        f"{reprlib.repr(value)} of type {type(value).__name__}. {hint}".rstrip()
    )


_TYPES: dict[Any, tuple[Any, str]] = {
    float: (Real, "a number"),
    int: (Integral, "an integer"),
    bool: (bool, "True or False"),
    str: (str, "a string"),
    NoneType: (NoneType, "None"),
    Mapping: (Mapping, "a dict"),
    Callable: (Callable, "a function"),
}
"""For each annotation, the type of the values and its name."""


def _accepts(annotation: Any, value: Any) -> bool:
    """Return whether a value fits an annotation. Annotations of other kinds accept everything."""
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if isinstance(value, jax.core.Tracer):
        return True
    if np.dtype in inner:  # `flax.typing.Dtype`, a union with Any
        return (value is None and NoneType in inner) or _is_dtype(value)
    if kind in (Union, UnionType):
        return any(_accepts(member, value) for member in inner)
    if kind is Sequence:
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
        return is_sequence and all(_accepts(inner[0], item) for item in value)
    # bool is a subclass of int, but True is not a number.
    if kind is not bool and isinstance(value, bool):
        return kind not in _TYPES
    if getattr(kind, "_is_protocol", False):  # the type of initializers
        return callable(value)
    return kind not in _TYPES or isinstance(value, _TYPES[kind][0])


def _is_dtype(value: Any) -> bool:
    try:
        jnp.dtype(value)
    except TypeError:
        return False
    return value is not None  # which is float64 for NumPy


def _accepted_by(annotation: Any) -> str:
    """Return what an annotation accepts, in words."""
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if np.dtype in inner:
        return "a dtype such as jnp.float32" + (" or None" if NoneType in inner else "")
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(_accepted_by(member) for member in inner))
    if kind is Sequence:
        noun = _accepted_by(inner[0]).partition(" ")[2]
        return f"a sequence of {noun}s"
    return _TYPES[kind][1] if kind in _TYPES else "a function"
