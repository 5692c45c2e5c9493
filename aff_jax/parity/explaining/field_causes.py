"""Find the fields of a layer that differ from the settings of its PyTorch counterpart."""

from collections.abc import Callable, Mapping
from typing import Any

from aff_jax.parity.explaining.single_layer import NUMPY_MODES, PaddingMode

__all__ = ["explain_fields", "explain_reference", "follows_reference"]

_Read = Callable[[Any, Any], Any]
"""Reads a setting from a PyTorch module and the one in JAX, as a value of the field in JAX."""


def explain_fields(
    layer: Any, torch_layer: Any, agrees: Callable[[Mapping[str, Any]], bool]
) -> tuple[str, list[str]]:
    """Explain by which fields a layer differs from its PyTorch counterpart.

    The layer runs with the settings of PyTorch. A field is named only if the outputs agree with
    PyTorch's value and differ without it.

    Args:
        layer: The layer, a linen or NNX module.
        torch_layer: The PyTorch layer.
        agrees: Returns whether the layer has PyTorch's output on PyTorch's input if fields have
            other values.

    Returns:
        Sentences, or an empty string if the fields explain nothing; and the names of the fields
        that were compared.
    """
    kinds = (kind.__name__ for kind in type(layer).__mro__)
    table = next((_FIELDS[kind] for kind in kinds if kind in _FIELDS), {})
    values: dict[str, Any] = {}
    for field, read in table.items():
        if not hasattr(layer, field):
            continue
        try:
            values[field] = read(torch_layer, layer)
        except (AttributeError, TypeError):
            continue  # the PyTorch layer is of another kind
    changed = {f: v for f, v in values.items() if v != getattr(layer, f)}
    kind = _kind_of(layer, torch_layer)
    if not changed or not agrees(changed):
        cause, tried = explain_reference(layer, agrees)
        return cause or kind, [*values, *tried]
    needed = [
        field for field in changed if not agrees({f: v for f, v in changed.items() if f != field})
    ]
    named = [
        f"`{field}` is {getattr(layer, field)!r}, PyTorch's is {_write_value(changed[field])}"
        for field in needed or changed
    ]
    return f"{'; '.join(named)}. With PyTorch's the layer agrees.", list(values)


def follows_reference(layer: Any) -> bool:
    """Return whether a layer is a fusion that differs between the paper and published code.

    Args:
        layer: The layer.

    Returns:
        True for AFF and IAFF of this library.
    """
    kind = type(layer)
    return kind.__name__ in _OF_REFERENCES and kind.__module__.startswith("aff_jax.")


def explain_reference(
    layer: Any, agrees: Callable[[Mapping[str, Any]], bool]
) -> tuple[str, list[str]]:
    """Explain a fusion by the fields that differ between the paper and published code.

    PyTorch's module has no attribute with their values, so the values of all references are tried.

    Args:
        layer: The layer; the result is empty if it is not an AFF or IAFF.
        agrees: See `explain_fields`.

    Returns:
        See `explain_fields`.
    """
    if not follows_reference(layer) or agrees({}):
        return "", []
    tried = [
        (field, value)
        for field, values in _OF_REFERENCES[type(layer).__name__].items()
        for value in values
        if isinstance(getattr(layer, field), int | float) and getattr(layer, field) != value
    ]
    for field, value in tried:
        if agrees({field: value}):
            cause = (
                f"`{field}` is {getattr(layer, field)!r}. With {field}={value!r} the layer agrees "
                f"with PyTorch's."
            )
            if field in ("gain", "share_global"):
                cause += (
                    " `reference` of create_model sets this field: 'paper' is the paper's "
                    "formula, 'pytorch' and 'mxnet' are the authors' code."
                )
            return cause, [field]
    return "", list(dict.fromkeys(field for field, _ in tried))


def _write_value(value: Any) -> str:
    """Write the value of a field, and how to get it where Flax has no such value."""
    if not isinstance(value, PaddingMode):
        return repr(value)
    sizes = tuple(before for before, _ in value.sizes)
    mode = NUMPY_MODES[value.mode]
    return (
        f"{sizes} with padding_mode={value.mode!r}: pad the input with "
        f"jnp.pad(x, {((0, 0), *value.sizes, (0, 0))}, mode={mode!r}) and set padding='VALID'"
    )


def _kind_of(layer: Any, torch_layer: Any) -> str:
    """Say that the two layers are of different kinds, if they are."""
    jax_kind, torch_kind = type(layer).__name__, type(torch_layer).__name__
    for kind in (
        "BatchNorm",
        "LayerNorm",
        "GroupNorm",
        "InstanceNorm",
        "RMSNorm",
        "Conv",
        "Linear",
    ):
        name = {"Linear": "Dense"}.get(kind, kind)
        if (kind in torch_kind) != (name in jax_kind or kind in jax_kind) and (
            jax_kind in _KNOWN or name in jax_kind
        ):
            return f"The layer is a {jax_kind}, and PyTorch's is a {torch_kind}."
    return ""


def _padding(torch_layer: Any, layer: Any) -> Any:
    """Return PyTorch's padding as a value of Flax's field."""
    if isinstance(torch_layer.padding, str):
        return torch_layer.padding.upper()
    sizes = torch_layer.padding
    if "ConvTranspose" in type(layer).__name__:
        # PyTorch removes `padding` from the output; Flax pads the dilated input.
        windows = zip(torch_layer.dilation, torch_layer.kernel_size, strict=True)
        whole = [dilation * (size - 1) for dilation, size in windows]
        extra = torch_layer.output_padding
        return tuple((w - p, w - p + e) for w, p, e in zip(whole, sizes, extra, strict=True))
    pairs = tuple((size, size) for size in sizes)
    if torch_layer.padding_mode == "zeros":
        return pairs
    windows = zip(torch_layer.dilation, torch_layer.kernel_size, strict=True)
    same = tuple(((d * (size - 1)) // 2, (d * (size - 1) + 1) // 2) for d, size in windows)
    mode = torch_layer.padding_mode.upper()
    if pairs == same and mode in ("CIRCULAR", "REFLECT"):
        return mode
    return PaddingMode(torch_layer.padding_mode, pairs)


_CONV: dict[str, _Read] = {
    "kernel_size": lambda torch_layer, _: tuple(torch_layer.kernel_size),
    "strides": lambda torch_layer, _: tuple(torch_layer.stride),
    "padding": _padding,
    "kernel_dilation": lambda torch_layer, _: tuple(torch_layer.dilation),
    "feature_group_count": lambda torch_layer, _: torch_layer.groups,
}

_NORM: dict[str, _Read] = {
    "epsilon": lambda torch_layer, _: torch_layer.eps,
    # The fast formula loses digits where the mean is much larger than the deviation.
    "use_fast_variance": lambda torch_layer, _: False,
}

_FIELDS: Mapping[str, Mapping[str, _Read]] = {
    "ConvTranspose": {
        "strides": _CONV["strides"],
        "padding": _CONV["padding"],
        "kernel_dilation": _CONV["kernel_dilation"],
    },
    "Conv": _CONV,
    "BatchNorm": _NORM,
    "LayerNorm": _NORM,
    "RMSNorm": _NORM,
    "InstanceNorm": _NORM,
    "GroupNorm": {**_NORM, "num_groups": lambda torch_layer, _: torch_layer.num_groups},
    "PReLU": {},
    "MultiHeadDotProductAttention": {"num_heads": lambda torch_layer, _: torch_layer.num_heads},
}
"""For each class of linen and NNX, its fields and where PyTorch has their values."""

_OF_REFERENCES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "AFF": {"gain": (1.0, 2.0), "logit_scale": (1.0, 2.0)},
    "IAFF": {"gain": (1.0, 2.0), "share_global": (True, False)},
}
"""Fields of fusions that differ between the paper and published code, and their values there."""

_KNOWN = {*_FIELDS, "Dense", "Linear"}
