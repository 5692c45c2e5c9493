"""Describe models as JSON values, and create models from descriptions."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.attention.ms_cam import MSCAM
from aff_jax.fusion.registry import FUSIONS
from aff_jax.hosts.registry import model_classes
from aff_jax.lookup import construct, look_up
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["describe_model", "model_from_description"]

_ACTIVATIONS = {f.__name__: f for f in (nn.relu, nn.silu, nn.gelu, nn.tanh, nn.sigmoid, nn.elu)}

_FLAX_NORMS: dict[str, type[nn.Module]] = {
    norm.__name__: norm
    for norm in (nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm, nn.LayerNorm, nn.RMSNorm)
}

_NOT_STORED = (
    "kernel_init",
    "head_init",
    "scale_init",
    "bias_init",
    "remat",
    "implementation",
    "name",
    "parent",
)
"""Fields that do not change what a network computes from its variables.

They say how parameters are initialized, which memory gradients take, and which of two equal
programs runs.
"""

_ALONE = (
    "Or save the variables alone with `aff_jax.save(path, variables, None)`, and read them with "
    "`aff_jax.load(path, model=model)`."
)
"""The way to save the variables of a model that cannot be described."""


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return the class and the fields of a model as JSON values.

    Args:
        model: A module of `aff_jax`.

    Returns:
        Dict with the name of the class as "class" and the encoded fields as "fields".

    Raises:
        ValueError: If the class is not one of `aff_jax`, or a field cannot be stored.
    """
    name = type(model).__name__
    if _classes().get(name) is not type(model):
        raise ValueError(
            f"expected a module of aff_jax, got a {name}, which `load` could not create. Known: "
            f"{', '.join(sorted(_classes()))}. {_ALONE}"
        )
    fields = {
        field.name: _encode(getattr(model, field.name), f"{name}.{field.name}")
        for field in dataclasses.fields(model)
        if field.name not in _NOT_STORED and field.init
    }
    return {"class": name, "fields": fields}


def model_from_description(description: Mapping[str, Any]) -> nn.Module:
    """Create the model that `describe_model` described.

    Args:
        description: Dict from `describe_model`.

    Returns:
        The model.

    Raises:
        ValueError: If the description names an unknown class, field or activation.
        KeyError: If an entry is missing or of an unknown kind.
        AttributeError, TypeError: If an entry has the wrong type.
    """
    cls = look_up(_classes(), "class", description["class"])
    fields = {name: _decode(value) for name, value in description["fields"].items()}
    return construct(f"saved {cls.__name__}", cls, fields)


def _classes() -> dict[str, type[nn.Module]]:
    classes = [MSCAM, *FUSIONS.values(), *model_classes()]
    return {cls.__name__: cls for cls in classes if isinstance(cls, type)}


def _encode(value: Any, field: str) -> Any:
    """Return a value of a field as JSON. Other than plain values become `{"kind": content}`."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": _encode_fields(value, field)}
    if isinstance(value, list | tuple):
        return {"tuple": [_encode(item, field) for item in value]}
    for name, activation in _ACTIVATIONS.items():
        if value is activation:
            return {"activation": name}
    is_partial = isinstance(value, partial) and not value.args
    made, keywords = (value.func, value.keywords) if is_partial else (value, {})
    if made is BatchNorm:
        return {"norm": _encode_fields(keywords, field)}
    for name, norm in _FLAX_NORMS.items():
        if made is norm:
            return {"flax_norm": {"class": name, "fields": _encode_fields(keywords, field)}}
    if (dtype := _as_dtype(value)) is not None:
        return {"dtype": dtype.name}
    raise ValueError(
        f"{field} is {value!r}, which cannot be stored, so that `load` could not create the model "
        f"again. Use numbers, strings, dtypes, one of the activations "
        f"{', '.join(sorted(_ACTIVATIONS))}, BatchNorm or one of Flax's norms "
        f"{', '.join(_FLAX_NORMS)} or a functools.partial of them, and the registered name of a "
        f"fusion: register your own with `aff_jax.fusion.registry.FUSIONS['mine'] = Mine`. {_ALONE}"
    )


def _encode_fields(fields: Mapping[str, Any], field: str) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name not in _NOT_STORED}
    return {name: _encode(value, f"{field}: {name}") for name, value in kept.items()}


def _as_dtype(value: Any) -> np.dtype[Any] | None:
    """Return a dtype of numbers, or None for anything else.

    `np.dtype` accepts more: it makes `object` of a class, and reads the attribute `dtype`.
    """
    is_scalar_type = isinstance(value, type) and issubclass(value, np.generic | bool | int | float)
    if not (is_scalar_type or isinstance(value, np.dtype | type(jnp.float32))):
        return None
    dtype = jnp.dtype(value)
    return dtype if jnp.issubdtype(dtype, np.number) or dtype == np.bool_ else None


def _decode(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    return _DECODERS[kind](content)


def _decode_norm(norm: type[nn.Module], content: Mapping[str, Any]) -> Any:
    fields = {key: _decode(item) for key, item in content.items()}
    return partial(norm, **fields) if fields else norm


def _decode_flax_norm(content: Mapping[str, Any]) -> Any:
    return _decode_norm(look_up(_FLAX_NORMS, "norm of Flax", content["class"]), content["fields"])


_DECODERS: dict[str, Callable[[Any], Any]] = {
    # Frozen, as linen freezes dicts in fields, so that modules are hashable.
    "dict": lambda items: nn.FrozenDict({key: _decode(item) for key, item in items.items()}),
    "tuple": lambda items: tuple(_decode(item) for item in items),
    "activation": lambda name: look_up(_ACTIVATIONS, "activation", name),
    "norm": lambda fields: _decode_norm(BatchNorm, fields),
    "flax_norm": _decode_flax_norm,
    "dtype": jnp.dtype,
}
"""For each kind of value in a description, the function that creates it from its content."""
