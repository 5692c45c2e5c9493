"""Weights at rest: one .safetensors file that also says which network they belong to."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.attention.ms_cam import MSCAM
from aff_jax.convert.entries import UNREAD
from aff_jax.files.safetensors import read_safetensors, write_safetensors
from aff_jax.fusion.registry import FUSIONS
from aff_jax.hosts.registry import host_classes
from aff_jax.hub import FILE, download, is_address, parse_address, upload
from aff_jax.inspection import image_channels, inspect_module
from aff_jax.lookup import construct, look_up
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["build_model", "describe_model", "is_saved", "load", "save"]

FORMAT = "aff_jax"

ACTIVATIONS = {f.__name__: f for f in (nn.relu, nn.silu, nn.gelu, nn.tanh, nn.sigmoid, nn.elu)}

# How parameters were initialised, and gradients take memory, is no part of what a network computes.
NOT_STORED = ("kernel_init", "head_init", "scale_init", "remat", "name", "parent")


def save(
    path: str | PathLike[str],
    variables: Mapping[str, Any],
    model: nn.Module,
    *,
    overwrite: bool = False,
) -> None:
    """Write variables and what rebuilds their model into one .safetensors file.

    Names are paths, "params/stem/kernel"; the metadata holds the model's class and fields as JSON.
    The file appears under its name when it is whole. `hf://user/name` writes to the Hugging Face
    Hub, as in `load`; a new repository is made there with the visibility that is your default.

    Raises:
        FileExistsError: there is such a file, and not `overwrite`.
        ValueError: a model, or a field of it, that has no name to be found again by.
        ImportError, OSError: the hub, as `aff_jax.hub.upload`.
    """
    if is_address(path):
        parse_address(str(path))  # a mistake is better found before the work
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, FILE)
            save(copy, variables, model)
            upload(str(path), str(copy), overwrite=overwrite)
        return
    description = json.dumps(describe_model(model))
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    write_safetensors(path, arrays, {"format": FORMAT, "model": description}, overwrite=overwrite)


def load(path: str | PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model and the variables that `save` wrote.

    `hf://user/name` is a repository on the Hugging Face Hub, of which `model.safetensors` is read;
    `hf://user/name@revision/file.safetensors` names a branch, tag or commit, and a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or was not written by `save`.
        ImportError, OSError: the hub, as `aff_jax.hub.download`.
    """
    if is_address(path):
        path = download(str(path))
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a file written by aff_jax.save, whose metadata say how to rebuild "
            f"the model; found metadata {sorted(metadata) or 'of no kind'}. Probably it is a "
            f"PyTorch checkpoint: use aff_jax.convert.from_torch."
        )
    try:
        description = json.loads(metadata["model"])
        model = build_model(description)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its description of the model is damaged: {error}") from error
    wide = [name for name, array in arrays.items() if array.dtype.itemsize > 4]
    if wide and jax.dtypes.canonicalize_dtype(float) == np.float32:
        raise ValueError(
            f"{path} holds {len(wide)} arrays in double precision, as {wide[0]}, which JAX would "
            f"cut to single: load it under `jax.enable_x64(True)`."
        )
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    variables = traverse_util.unflatten_dict(leaves, sep="/")
    _require_fit(path, model, variables)
    return model, variables


def _require_fit(path: str | PathLike[str], model: nn.Module, variables: dict[str, Any]) -> None:
    """`ValueError` where arrays of a host are missing or of another shape than its own."""
    if type(model) not in host_classes():
        return  # only a host knows what it is called with
    structure = inspect_module(model, (), channels=image_channels(variables))
    expected = traverse_util.flatten_dict(dict(structure.variables), sep="/")
    found = traverse_util.flatten_dict(variables, sep="/")
    wrong = [
        name
        for name in sorted(expected.keys() | found.keys())
        if not name.startswith(UNREAD)
        and (name not in expected or np.shape(found.get(name)) != expected[name].shape)
    ]
    if wrong:
        raise ValueError(
            f"{path}: its arrays do not fit its model, {type(model).__name__}: {len(wrong)} are "
            f"missing, unexpected or misshapen, as {', '.join(wrong[:5])}. The file is damaged."
        )


def is_saved(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a .safetensors file are those of `save`."""
    return metadata.get("format") == FORMAT


def _classes() -> dict[str, type[nn.Module]]:
    classes = [MSCAM, *FUSIONS.values(), *host_classes()]
    return {cls.__name__: cls for cls in classes if isinstance(cls, type)}


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Class and fields of a model, of JSON values.

    Raises:
        ValueError: the class or a field has no name to be found again by.
    """
    name = type(model).__name__
    if _classes().get(name) is not type(model):
        raise ValueError(
            f"expected a module of aff_jax, got a {name}, which `load` could not rebuild. Known: "
            f"{', '.join(sorted(_classes()))}. Save its variables with safetensors.flax instead."
        )
    fields = {}
    for field in dataclasses.fields(model):
        if field.name not in NOT_STORED and field.init:
            value = getattr(model, field.name)
            if field.name == "fusion_fields":
                value = {key: item for key, item in value.items() if key not in NOT_STORED}
            fields[field.name] = _encode(value, f"{name}.{field.name}")
    return {"class": name, "fields": fields}


def build_model(description: Mapping[str, Any]) -> nn.Module:
    """The model that `describe_model` described.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no such description.
    """
    cls = look_up(_classes(), "class", description["class"])
    fields = {name: _decode(value) for name, value in description["fields"].items()}
    return construct(f"saved {cls.__name__}", cls, fields)


def _encode(value: Any, what: str) -> Any:
    """As JSON: what is no plain value becomes {"kind": content}."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {"dict": {str(key): _encode(item, what) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return {"tuple": [_encode(item, what) for item in value]}
    for name, activation in ACTIVATIONS.items():
        if value is activation:
            return {"activation": name}
    if value is BatchNorm:
        return {"norm": {}}
    if isinstance(value, partial) and value.func is BatchNorm and not value.args:
        return {"norm": {key: _encode(item, what) for key, item in value.keywords.items()}}
    try:
        return {"dtype": jnp.dtype(value).name}
    except TypeError:
        raise ValueError(
            f"{what} is {value!r}, which has no name to be found again by. Use numbers, strings, "
            f"dtypes, BatchNorm or a functools.partial of it, and for activations one of "
            f"{', '.join(sorted(ACTIVATIONS))}; a fusion needs a registered name."
        ) from None


def _decode(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        # Frozen, as linen keeps it, so that modules stay hashable.
        return nn.FrozenDict({key: _decode(item) for key, item in content.items()})
    if kind == "tuple":
        return tuple(_decode(item) for item in content)
    if kind == "activation":
        return look_up(ACTIVATIONS, "activation", content)
    if kind == "norm":
        fields = {key: _decode(item) for key, item in content.items()}
        return partial(BatchNorm, **fields) if fields else BatchNorm
    if kind == "dtype":
        return jnp.dtype(content)
    raise KeyError(kind)
