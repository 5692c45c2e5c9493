"""Initialize training from a file of pretrained weights."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from aff_jax.convert.causes import MisshapenVariable, explain_shapes
from aff_jax.differences import DifferentArraysError, list_differences
from aff_jax.hosts.base import HEAD, is_in_first_layer
from aff_jax.inspection import image_channels
from aff_jax.serialization import load

__all__ = ["initialize_from", "initialize_part_from"]


def initialize_from(path: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replace the values of `variables` by values from a file.

    Arrays of the head keep their values where the file has another shape, since it was trained for
    other classes.

    Args:
        path: A file written by `aff_jax.save` or `aff-jax convert`. `~` is the home directory.
        variables: The initialized variables of the network.

    Returns:
        A tuple of the new variables and the names of the arrays of the head that kept their values,
        such as `params/head/kernel`.

    Raises:
        FileNotFoundError: If the file does not exist.
        DifferentArraysError: If an array is missing, unexpected or of another shape.
        ValueError: If the file was not written by `aff_jax.save`.
    """
    _, loaded = load(os.path.expanduser(path))
    expected, found = (traverse_util.flatten_dict(dict(v), sep="/") for v in (variables, loaded))
    new_head = [
        name
        for name in expected
        if name in found
        and name.split("/")[1] == HEAD
        and expected[name].shape != found[name].shape
    ]
    lines = list_differences(
        {name: leaf.shape for name, leaf in expected.items()},
        {n: (expected if n in new_head else found)[n].shape for n in found},
    )
    if lines:
        advice = _advice(path, expected, found)
        raise DifferentArraysError(
            f"the arrays of init_from {path} do not match the network", lines, advice
        )
    merged = {
        name: leaf if name in new_head else np.asarray(found[name], leaf.dtype)
        for name, leaf in expected.items()
    }
    return traverse_util.unflatten_dict(merged, sep="/"), new_head


def initialize_part_from(
    path: str, variables: Mapping[str, Any], prefix: str
) -> tuple[dict[str, Any], list[str]]:
    """Replace the values of one module of a network by values from a file.

    An array `params/stem/kernel` of the file belongs to `params/<prefix>/stem/kernel`. The file may
    have more arrays, such as the head of its network. The network may have other modules.

    Args:
        path: A file as in `initialize_from`.
        variables: The initialized variables of the network.
        prefix: Path of the module, such as "backbone".

    Returns:
        A tuple of the new variables and lines that say what was loaded, what keeps its values, and
        what of the file was not used.

    Raises:
        FileNotFoundError: If the file does not exist.
        DifferentArraysError: If an array has another shape than the one of its name in the network.
        ValueError: If the file was not written by `aff_jax.save`, or no array has a name of the
            network. The message has the names of both.
    """
    _, loaded = load(os.path.expanduser(path))
    expected, stored = (traverse_util.flatten_dict(dict(v), sep="/") for v in (variables, loaded))
    prefix = prefix.strip("/")
    found = {name.replace("/", f"/{prefix}/", 1): leaf for name, leaf in stored.items()}
    matching = expected.keys() & found.keys()
    if not matching:
        raise ValueError(
            f"expected arrays in init_from {path} for init_prefix={prefix!r} of the network, "
            f"found none.\n  modules of the network: {_modules(expected)}\n  modules of the file: "
            f"{_modules(stored)}\nSet --config.init_prefix to the path of the module in the "
            f"network that the file is for."
        )
    shapes = [
        f"  misshapen   {name}: {found[name].shape}, expected {expected[name].shape}"
        for name in expected
        if name in matching and expected[name].shape != found[name].shape
    ]
    if shapes:
        inside = {name: leaf for name, leaf in expected.items() if f"/{prefix}/" in name}
        unprefixed = {name.replace(f"/{prefix}/", "/", 1): leaf for name, leaf in inside.items()}
        shared = {name: leaf for name, leaf in unprefixed.items() if name in stored}
        advice = _advice(path, shared, {name: stored[name] for name in shared})
        raise DifferentArraysError(
            f"the arrays of init_from {path} do not fit {prefix!r} of the network", shapes, advice
        )
    merged = {
        name: np.asarray(found[name], leaf.dtype) if name in matching else leaf
        for name, leaf in expected.items()
    }
    kept = [name for name in expected if name not in matching]
    unused = [name for name in stored if name.replace("/", f"/{prefix}/", 1) not in matching]
    report = [f"Loaded {len(matching)} arrays of {path} into {prefix}."]
    if kept:
        report.append(f"Newly initialized ({len(kept)} arrays): {_modules(kept)}.")
    if unused:
        report.append(f"Not used from the file ({len(unused)} arrays): {_modules(unused)}.")
    return traverse_util.unflatten_dict(merged, sep="/"), report


def _modules(names: Iterable[str]) -> str:
    """List the outermost modules of arrays, whose names begin with a collection."""
    modules = dict.fromkeys(name.split("/")[1] for name in names)
    return ", ".join(sorted(modules))


def _advice(path: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Say what to do with a file whose arrays do not match. Only the head may differ in shape."""
    misshapen = [
        MisshapenVariable(tuple(name.split("/")[1:]), leaf.shape, found[name].shape)
        for name, leaf in expected.items()
        if name in found and found[name].shape != leaf.shape and name.split("/")[1] != HEAD
    ]
    if expected.keys() != found.keys():
        return (
            "Probably the file has another model or fusion, or other fields of these: compare "
            "`aff-jax summary` and the metadata of the file. Only the head may differ in shape."
        )
    channels = image_channels(traverse_util.unflatten_dict(dict(expected), sep="/"))
    if all(is_in_first_layer(variable.path) for variable in misshapen):
        return (
            "Only the number of input channels differs. Adapt the first convolution to the images, "
            "by the sum or repetition of its channels, and set init_from=adapted.safetensors:\n"
            f"    model, variables = aff_jax.load({path!r})\n"
            f"    variables = aff_jax.convert.adapt_channels(variables, {channels})\n"
            '    aff_jax.save("adapted.safetensors", variables, model)'
        )
    return explain_shapes(misshapen)
