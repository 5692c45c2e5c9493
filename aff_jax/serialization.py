"""Save and load a model: variables and the model's description in one .safetensors file."""

import dataclasses
import json
import re
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
from aff_jax.differences import list_differences
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

# Fields that do not change what a network computes from its variables: how parameters are
# initialized, which memory gradients take, and which of two equal programs runs.
NOT_STORED = (
    "kernel_init",
    "head_init",
    "scale_init",
    "remat",
    "implementation",
    "name",
    "parent",
)


def save(
    path: str | PathLike[str],
    variables: Mapping[str, Any],
    model: nn.Module,
    *,
    overwrite: bool = False,
) -> None:
    """Write variables and the description of their model to one .safetensors file.

    Arrays are named by their paths, as `params/stem/kernel`. The metadata contain the class and the
    fields of the model as JSON. The file is written atomically.

    Args:
        path: Path of the file, or `hf://user/name` for the Hugging Face Hub, as in `load`. A new
            repository gets the default visibility of your account.
        variables: Variables of the model.
        model: A module of `aff_jax`.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
        ValueError: If the model is not of a class of `aff_jax`, or one of its fields cannot be
            stored.
        ImportError: If `path` is an address of the hub and `huggingface_hub` is not installed.
        OSError: If `path` is an address of the hub and the upload fails; see `aff_jax.hub.upload`.
    """
    if is_address(path):
        parse_address(str(path))  # report a wrong address before the work
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, FILE)
            save(copy, variables, model)
            upload(str(path), str(copy), overwrite=overwrite)
        return
    description = json.dumps(describe_model(model))
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    write_safetensors(path, arrays, {"format": FORMAT, "model": description}, overwrite=overwrite)


def load(path: str | PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model and its variables from a file that `save` wrote.

    Args:
        path: Path of the file, or an address on the Hugging Face Hub. `hf://user/name` reads
            `model.safetensors` of that repository, and
            `hf://user/name@revision/file.safetensors` another file of a branch, tag or commit.

    Returns:
        The model and its variables.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, or was not written by `save`.
        ImportError: If `path` is an address of the hub and `huggingface_hub` is not installed.
        OSError: If `path` is an address of the hub and the download fails; see
            `aff_jax.hub.download`.
    """
    if is_address(path):
        path = download(str(path))
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a file written by aff_jax.save, whose metadata describe the model; "
            f"found the metadata {sorted(metadata)}. Probably it is a PyTorch checkpoint: use "
            f"aff_jax.convert.from_torch."
        )
    try:
        description, arrays = _translate_old_file(json.loads(metadata["model"]), arrays)
        model = build_model(description)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the description of the model is damaged: {error}") from error
    wide = [name for name, array in arrays.items() if array.dtype.itemsize > 4]
    if wide and jax.dtypes.canonicalize_dtype(float) == np.float32:
        raise ValueError(
            f"{path}: {len(wide)} arrays are in double precision, among them {wide[0]}, and JAX "
            f"would convert them to single precision. Load the file under `jax.enable_x64(True)`."
        )
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    variables = traverse_util.unflatten_dict(leaves, sep="/")
    _check_arrays(path, model, variables)
    return model, variables


def _check_arrays(path: str | PathLike[str], model: nn.Module, variables: dict[str, Any]) -> None:
    """Raise `ValueError` if arrays of a host are missing, unexpected or misshapen."""
    if type(model) not in host_classes():
        return  # the inputs of other modules are unknown, and so are the shapes of their variables
    structure = inspect_module(model, (), channels=image_channels(variables))
    expected = traverse_util.flatten_dict(dict(structure.variables), sep="/")
    found = traverse_util.flatten_dict(variables, sep="/")
    wrong = list_differences(
        {name: leaf.shape for name, leaf in expected.items()},
        {n: np.shape(leaf) for n, leaf in found.items() if not n.startswith(UNREAD)},
    )
    if wrong:
        raise ValueError(
            f"{path}: the arrays do not match the model {type(model).__name__}: {len(wrong)} "
            "differ. The file is damaged.\n" + "\n".join(wrong)
        )


def _translate_old_file(
    description: dict[str, Any], arrays: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Translate a host that was saved before its field `features` became `features_only`.

    Two other things changed at the same time. `blocks_per_stage` of the hosts for small images was
    one integer for all three stages, and the final norm of `CIFARResNet` and `InceptionNet` was
    named `norm`. Other descriptions and arrays are returned unchanged.
    """
    if "features" not in description["fields"]:
        return description, arrays
    fields = dict(description["fields"])
    fields["features_only"] = fields.pop("features")
    if isinstance(fields["blocks_per_stage"], int):
        fields["blocks_per_stage"] = {"tuple": [fields["blocks_per_stage"]] * 3}
    if description["class"] in ("CIFARResNet", "InceptionNet"):
        arrays = {
            re.sub(r"^(params|batch_stats)/norm/", r"\1/final_norm/", name): array
            for name, array in arrays.items()
        }
    return {**description, "fields": fields}, arrays


def is_saved(metadata: Mapping[str, str]) -> bool:
    """Return whether `save` wrote the .safetensors file with these metadata."""
    return metadata.get("format") == FORMAT


def _classes() -> dict[str, type[nn.Module]]:
    classes = [MSCAM, *FUSIONS.values(), *host_classes()]
    return {cls.__name__: cls for cls in classes if isinstance(cls, type)}


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
            f"{', '.join(sorted(_classes()))}. Save the variables with safetensors.flax instead."
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


def _encode(value: Any, field: str) -> Any:
    """Return a value of a field as JSON. A value that is not plain becomes `{"kind": content}`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {"dict": {str(key): _encode(item, field) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return {"tuple": [_encode(item, field) for item in value]}
    for name, activation in ACTIVATIONS.items():
        if value is activation:
            return {"activation": name}
    if value is BatchNorm:
        return {"norm": {}}
    if isinstance(value, partial) and value.func is BatchNorm and not value.args:
        return {"norm": {key: _encode(item, field) for key, item in value.keywords.items()}}
    try:
        return {"dtype": jnp.dtype(value).name}
    except TypeError:
        raise ValueError(
            f"{field} is {value!r}, which cannot be stored. Use numbers, strings, dtypes, "
            f"BatchNorm or a functools.partial of it, one of the activations "
            f"{', '.join(sorted(ACTIVATIONS))}, and the registered name of a fusion."
        ) from None


def _decode(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        # Frozen, as linen freezes dicts in fields, so that modules are hashable.
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
