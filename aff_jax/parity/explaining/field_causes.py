"""Find the fields of a layer that differ from the settings of its PyTorch counterpart."""

from collections.abc import Callable, Mapping
from typing import Any

from aff_jax.parity.explaining.single_layer import NUMPY_MODES, PaddingMode

__all__ = ["explain_fields"]

Read = Callable[[Any, Any], Any]
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
    table = next((FIELDS[kind] for kind in kinds if kind in FIELDS), {})
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
        return kind, list(values)
    needed = [
        field for field in changed if not agrees({f: v for f, v in changed.items() if f != field})
    ]
    named = [
        f"`{field}` is {getattr(layer, field)!r}, PyTorch's is {_describe(changed[field])}"
        for field in needed or changed
    ]
    return f"{'; '.join(named)}. With PyTorch's the layer agrees.", list(values)


def _describe(value: Any) -> str:
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
    ours, theirs = type(layer).__name__, type(torch_layer).__name__
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
        if (kind in theirs) != (name in ours or kind in ours) and (ours in KNOWN or name in ours):
            return f"The layer is a {ours}, and PyTorch's is a {theirs}."
    return ""


def _padding(torch_layer: Any, layer: Any) -> Any:
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


CONV: dict[str, Read] = {
    "kernel_size": lambda theirs, _: tuple(theirs.kernel_size),
    "strides": lambda theirs, _: tuple(theirs.stride),
    "padding": _padding,
    "kernel_dilation": lambda theirs, _: tuple(theirs.dilation),
    "feature_group_count": lambda theirs, _: theirs.groups,
}

NORM: dict[str, Read] = {
    "epsilon": lambda theirs, _: theirs.eps,
    # The fast formula loses digits where the mean is much larger than the deviation.
    "use_fast_variance": lambda theirs, _: False,
}

FIELDS: Mapping[str, Mapping[str, Read]] = {
    "ConvTranspose": {
        "strides": CONV["strides"],
        "padding": CONV["padding"],
        "kernel_dilation": CONV["kernel_dilation"],
    },
    "Conv": CONV,
    "BatchNorm": NORM,
    "LayerNorm": NORM,
    "RMSNorm": NORM,
    "InstanceNorm": NORM,
    "GroupNorm": {**NORM, "num_groups": lambda theirs, _: theirs.num_groups},
    "PReLU": {},
    "MultiHeadDotProductAttention": {"num_heads": lambda theirs, _: theirs.num_heads},
}
"""For each class of linen and NNX, its fields and where PyTorch has their values."""

KNOWN = {*FIELDS, "Dense", "Linear"}
