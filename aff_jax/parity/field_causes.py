"""Find the fields of a layer that differ from the settings of its PyTorch counterpart."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["explain_fields"]

Read = Callable[[Any, Any], Any]
"""Reads a setting from a PyTorch module and the linen module, as a value of the linen field."""


def explain_fields(
    layer: nn.Module, torch_layer: Any, agrees: Callable[[nn.Module], bool]
) -> tuple[str, list[str]]:
    """Explain by which fields a layer differs from its PyTorch counterpart.

    The layer runs with the settings of PyTorch. A field is named only if the outputs agree with
    PyTorch's value and differ without it.

    Args:
        layer: The linen layer.
        torch_layer: The PyTorch layer.
        agrees: Returns whether a layer has PyTorch's output on PyTorch's input.

    Returns:
        Sentences, or an empty string if the fields explain nothing; and the names of the fields
        that were compared.
    """
    table = next((t for kind, t in FIELDS.items() if isinstance(layer, kind)), {})
    values: dict[str, Any] = {}
    for field, read in table.items():
        try:
            values[field] = read(torch_layer, layer)
        except (AttributeError, TypeError):
            continue  # the PyTorch layer is of another kind
    changed = {f: v for f, v in values.items() if v != getattr(layer, f)}
    kind = _kind_of(layer, torch_layer)
    if not changed or not agrees(layer.clone(**changed)):
        return kind, list(values)
    needed = [
        field
        for field in changed
        if not agrees(layer.clone(**{f: v for f, v in changed.items() if f != field}))
    ]
    named = [
        f"`{field}` is {getattr(layer, field)!r}, PyTorch's is {changed[field]!r}"
        for field in needed or changed
    ]
    return f"{'; '.join(named)}. With PyTorch's the layer agrees.", list(values)


def _kind_of(layer: nn.Module, torch_layer: Any) -> str:
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
        if (kind in theirs) != (name in ours) and (ours in KNOWN or name in ours):
            return f"The layer is a {ours}, and PyTorch's is a {theirs}."
    return ""


def _padding(torch_layer: Any, layer: Any) -> Any:
    if isinstance(torch_layer.padding, str):
        return torch_layer.padding.upper()
    if torch_layer.padding_mode == "circular":
        return "CIRCULAR"
    sizes = torch_layer.padding
    if isinstance(layer, nn.ConvTranspose):
        # PyTorch removes `padding` from the output; Flax pads the dilated input.
        windows = zip(torch_layer.dilation, torch_layer.kernel_size, strict=True)
        whole = [dilation * (size - 1) for dilation, size in windows]
        extra = torch_layer.output_padding
        return tuple((w - p, w - p + e) for w, p, e in zip(whole, sizes, extra, strict=True))
    return tuple((size, size) for size in sizes)


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

FIELDS: Mapping[type[nn.Module], Mapping[str, Read]] = {
    nn.ConvTranspose: {
        "strides": CONV["strides"],
        "padding": CONV["padding"],
        "kernel_dilation": CONV["kernel_dilation"],
    },
    nn.Conv: CONV,
    BatchNorm: {"epsilon": NORM["epsilon"]},
    nn.BatchNorm: NORM,
    nn.LayerNorm: NORM,
    nn.RMSNorm: NORM,
    nn.InstanceNorm: NORM,
    nn.GroupNorm: {**NORM, "num_groups": lambda theirs, _: theirs.num_groups},
    nn.PReLU: {},
}
"""For each class of layers, its fields and where PyTorch has their values."""

KNOWN = {kind.__name__ for kind in FIELDS} | {"Dense"}
