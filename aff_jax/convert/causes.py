"""Guess why a checkpoint does not match a module, and say what to do."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aff_jax.convert.entries import KERNEL_LAYOUTS, UNREAD, Entry
from aff_jax.convert.prefixes import find_prefixes
from aff_jax.hosts.base import HEAD, is_in_first_layer
from aff_jax.inspection import ModulePath

__all__ = ["MisshapenVariable", "explain_shapes", "guess_cause"]

_SYMBOL_NAME = re.compile(
    r"[^.]+_(weight|bias|gamma|beta|running_mean|running_var|moving_mean|moving_var)"
)
"""A name in MXNet's files for symbols, such as `resnetv10_conv0_weight`."""

_OVERLAP = 0.5
"""Share of names that two networks with different fusions have in common."""

_REDUCE_KERNEL = ("reduce", "kernel")
"""End of the path of the kernel of shape (channels, channels // reduction)."""

_BRANCH = re.compile(r"(local|global)\d*")
"""Names of the branches of the attention."""


class MisshapenVariable(NamedTuple):
    """A variable of the wrong shape.

    Attributes:
        path: Path of the variable in its collection.
        expected: Its shape.
        found: The other shape, in Flax's layout.
    """

    path: ModulePath
    expected: tuple[int, ...]
    found: tuple[int, ...]


def guess_cause(entries: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> str:
    """Guess why a checkpoint does not match a module.

    Args:
        entries: Entries of the module by name.
        arrays: Arrays of the checkpoint by name.

    Returns:
        A sentence that names the cause, and what to do.
    """
    read_entries = {name: entry for name, entry in entries.items() if entry.collection != UNREAD}
    missing = [entry for name, entry in read_entries.items() if name not in arrays]
    unexpected = [name for name in arrays if name not in entries]
    if cause := _explain_names(read_entries, arrays) or _explain_fusions(entries, arrays):
        return cause
    if missing and not unexpected and all(entry.path[0] == HEAD for entry in missing):
        return (
            "The checkpoint has no head: create the network with features_only=True; on the "
            "command line, --field=features_only=True."
        )
    if not missing and not unexpected:
        misshapen = [
            MisshapenVariable(entry.path, entry.part_shape, _shape_in_flax(entry, arrays[name]))
            for name, entry in read_entries.items()
            if not entry.accepts(arrays[name])
        ]
        if misshapen:
            return explain_shapes(misshapen)
        if all(name in arrays for name in entries):
            return (
                "All names and shapes agree. Probably the weights are quantized, or were cast: "
                "write them with floating-point numbers, as in `tensor.float()`."
            )
        return (
            "The checkpoint has some of the arrays that no module reads, and lacks others. "
            "Probably it is incomplete; without any of these arrays it can be converted too."
        )
    if not missing and all(entry.accepts(arrays[name]) for name, entry in read_entries.items()):
        listed = ", ".join(map(repr, unexpected[:5])) + (", ..." if unexpected[5:] else "")
        return (
            f"The module has no counterpart of the unexpected arrays. If it needs none, as for "
            f"masks and other buffers, pass ignore=[{listed}]; on the command line, "
            f"--ignore={unexpected[0]}."
        )
    return (
        "Probably the checkpoint belongs to another network or to one with other fields, which "
        "`aff-jax summary` shows, or its names have another prefix, which `rename` can change; on "
        "the command line, --rename."
    )


def _explain_names(read_entries: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> str:
    """Explain names of another kind or under a prefix; an empty string for other names."""
    if sum(_SYMBOL_NAME.fullmatch(name) is not None for name in arrays) > len(arrays) / 2:
        return (
            "The names belong to MXNet's symbols, as `export` and `collect_params().save` write "
            "them. Save the network with `net.save_parameters(path)` instead."
        )
    if prefixes := find_prefixes(read_entries, arrays):
        listed = " or ".join(f"prefix={p!r}" for p in prefixes[:5])
        return (
            f"The names of this module are in the checkpoint under a prefix. To convert, pass "
            f"{listed}; on the command line, --prefix={prefixes[0].removesuffix('.')}. To compare, "
            f"take this submodule alone."
        )
    is_whole = len(arrays) >= _OVERLAP * len(read_entries)
    if is_whole and (prefixes := find_prefixes(arrays, read_entries)):
        prefix = prefixes[0].removesuffix(".")
        return (
            f"The names of the checkpoint are in this module under a prefix: pass "
            f"rename={{'': {prefix!r}}}; on the command line, --rename=={prefix}."
        )
    return ""


def _explain_fusions(entries: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> str:
    """Explain that the networks have different fusions; an empty string if they do not."""
    expected_fusion, found_fusion = _guess_fusion(entries), _guess_fusion(arrays)
    common = len(set(entries) & set(arrays))
    if expected_fusion != found_fusion and common >= _OVERLAP * min(len(entries), len(arrays)):
        return (
            f"The checkpoint looks like a network with fusion={found_fusion!r}; the module has "
            f"fusion={expected_fusion!r}."
        )
    return ""


def explain_shapes(misshapen: Sequence[MisshapenVariable]) -> str:
    """Guess which fields of a network differ if all names agree and only shapes differ.

    Args:
        misshapen: The variables of the wrong shape.

    Returns:
        Sentences that name the fields, and their values if they are known.
    """
    groups: dict[str, list[MisshapenVariable]] = {}
    for variable in misshapen:
        groups.setdefault(_cause_of(variable), []).append(variable)
    if "" in groups and all(_differs_in_input_channels(v) for v in groups[""]):
        first = groups[""][0]
        layer = f"The layer {'/'.join(first.path[:-1])}".removesuffix(" ")
        return (
            f"{layer} has {first.found[-2]} input channels in the checkpoint and "
            f"{first.expected[-2]} here. Either the example inputs have another layout or size "
            f"(give them with the channels last, as jnp.zeros((1, height, width, channels))), or "
            f"the networks differ in what this layer reads or in a field such as groups."
        )
    if not groups or "" in groups:
        return (
            "All names agree, so probably the networks differ in fields such as width, "
            "base_channels, groups, width_per_group, reduction, num_classes: give this one the "
            "fields of the other."
        )
    sentences = []
    if "head" in groups:
        classes = groups["head"][0].found[-1]
        sentences.append(
            f"The head has {classes} classes: pass num_classes={classes}; on the command line, "
            f"--num-classes={classes}."
        )
    if "channels" in groups:
        variable = groups["channels"][0]
        axis = _channel_axis(variable)
        channels = variable.found[axis]
        sentences.append(
            f"The first layer takes images with {channels} input channels, and this network has "
            f"{variable.expected[axis]}: give example inputs with {channels}, as "
            f"jnp.zeros((1, 64, 64, {channels})), or adapt the variables with "
            f"aff_jax.convert.adapt_channels."
        )
    if "inputs" in groups:
        sentences.append(
            "The inputs of the attention have other channels than the checkpoint. Give example "
            "inputs with the channels last, as jnp.zeros((1, height, width, channels)), and of the "
            "width of the checkpoint."
        )
    elif "reduction" in groups:
        ratios = {
            v.found[0] / v.found[1] for v in groups["reduction"] if v.path[-2:] == _REDUCE_KERNEL
        }
        value = f"{ratios.pop():g}" if len(ratios) == 1 else "N"
        sentences.append(
            f"The hidden layers of the attention have other widths: pass reduction={value}; on the "
            f"command line, --field=reduction={value}."
        )
    return " ".join(sentences)


def _cause_of(variable: MisshapenVariable) -> str:
    """Return "head", "channels", "inputs", "reduction", or an empty string for another cause."""
    path, expected, found = variable
    if path[0] == HEAD and expected[:-1] == found[:-1]:
        return "head"
    if is_in_first_layer(path) and len(expected) == len(found):
        axis = _channel_axis(variable)
        same = [e == f for e, f in zip(expected, found, strict=True)]
        del same[axis]
        if all(same):
            return "channels"
    if any(_BRANCH.fullmatch(part) for part in path) and len(expected) == len(found):
        # The last layer has as many channels as the inputs, and so has the first kernel.
        is_last = path[-2].startswith("expand") and expected[-1] != found[-1]
        is_first = path[-2:] == _REDUCE_KERNEL and expected[0] != found[0]
        return "inputs" if is_last or is_first else "reduction"
    return ""


def _differs_in_input_channels(variable: MisshapenVariable) -> bool:
    """Return whether two kernels differ in nothing but their input channels."""
    _, expected, found = variable
    return (
        len(expected) == len(found) >= 2
        and expected[-2] != found[-2]
        and (*expected[:-2], expected[-1]) == (*found[:-2], found[-1])
    )


def _channel_axis(variable: MisshapenVariable) -> int:
    return -2 if len(variable.expected) > 1 else -1


def _shape_in_flax(entry: Entry, array: np.ndarray) -> tuple[int, ...]:
    """Return the shape of an array of a checkpoint in Flax's layout."""
    if array.ndim != len(entry.shape):
        return tuple(array.shape)
    if entry.layout == "dense":
        array = array.reshape(*array.shape[:2], -1)[..., 0]
    return tuple(KERNEL_LAYOUTS[entry.layout].to_flax(array).shape)


def _guess_fusion(names: Iterable[str]) -> str:
    joined = "\n".join(names)
    for mark, fusion in (("local_att2", "iaff"), ("local_att", "aff")):
        if mark in joined:
            return fusion
    return "add"
