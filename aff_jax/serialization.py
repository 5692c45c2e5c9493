"""Save and load a model: variables and the model's description in one .safetensors file."""

import json
import tempfile
from collections.abc import Iterable, Mapping
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
from aff_jax.description import describe_model, model_from_description
from aff_jax.differences import DifferentArraysError, list_differences
from aff_jax.files.file_types import describe_directory, describe_file_type, detect_file_type
from aff_jax.files.safetensors import read_safetensors, write_safetensors
from aff_jax.hosts.registry import model_classes
from aff_jax.hub import FILE, download, is_address, parse_address, upload
from aff_jax.images.image_task import ImageTask
from aff_jax.inspection import Structure, image_channels, inspect_module
from aff_jax.nn.input_checks import check_model_and_variables
from aff_jax.saved_model import SavedModel

__all__ = ["is_saved", "load", "save"]

_FORMAT = "aff_jax"

_COLLECTIONS = ("params", "batch_stats", UNREAD)
"""The collections of the modules of `aff_jax`."""

_CONVERT = (
    "Convert it with `aff-jax convert {path} weights.safetensors --model NAME`, or read it with "
    "aff_jax.convert.{function}."
)
"""Advice in errors about weights of other frameworks."""


def save(
    path: str | PathLike[str],
    variables: Mapping[str, Any],
    model: nn.Module | None,
    *,
    image_task: ImageTask | None = None,
    origin: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write variables and the description of their model to one .safetensors file.

    Arrays are named by their paths, such as `params/stem/kernel`. The metadata contain the class
    and the fields of the model as JSON. Partitioned variables are written without their
    partitioning. The file is written atomically. Nothing is written that `load` would refuse.

    Args:
        path: Path of the file, or `hf://user/name` for the Hugging Face Hub, as in `load`. A new
            repository gets the default visibility of your account.
        variables: Variables of the model.
        model: A module of `aff_jax`. None writes the variables alone; `load` then needs the model,
            which may be of any class.
        image_task: The images that the model reads and the classes that it predicts.
        origin: Where the variables come from, as JSON values.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
        TypeError: If an argument has a wrong type, for example because two are swapped.
        DifferentArraysError: If the variables do not match the model.
        ValueError: If the model is not of a class of `aff_jax`, or one of its fields cannot be
            stored.
        ImportError: If `path` is an address of the hub and `huggingface_hub` is not installed.
        OSError: If `path` is an address of the hub and the upload fails; see `aff_jax.hub.upload`.
    """
    call = "aff_jax.save(path, variables, model)"
    if not isinstance(path, str | PathLike):
        raise TypeError(
            f"{call}: expected a path, got a {type(path).__name__}. Probably the arguments are "
            f"swapped."
        )
    if model is not None:
        check_model_and_variables(call, model, variables)
    if is_address(path):
        parse_address(str(path))  # report a wrong address before the work
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, FILE)
            save(copy, variables, model, image_task=image_task, origin=origin)
            upload(str(path), str(copy), overwrite=overwrite)
        return
    metadata = {"format": _FORMAT}
    if image_task is not None:
        metadata["image_task"] = json.dumps(image_task.to_json())
    if origin is not None:
        metadata["origin"] = json.dumps(origin)
    arrays = {name: nn.meta.unbox(leaf) for name, leaf in _flatten(variables).items()}
    if model is not None:
        metadata["model"] = json.dumps(describe_model(model))
        rebuilt = model_from_description(json.loads(metadata["model"]))
        _check_collections(rebuilt, variables)
        if wrong := _list_misfits(rebuilt, traverse_util.unflatten_dict(arrays, sep="/")):
            raise DifferentArraysError(
                f"the variables do not match this {type(model).__name__}",
                wrong,
                "Nothing was written, because `load` would refuse the file. Pass all variables, as "
                "its init returns them. Probably these belong to another model, or have an axis "
                "for devices: take one copy, `jax.tree.map(lambda leaf: leaf[0], variables)`.",
            )
    write_safetensors(path, arrays, metadata, overwrite=overwrite)


def load(path: str | PathLike[str], *, model: nn.Module | None = None) -> SavedModel:
    """Read a model and its variables from a file that `save` wrote.

    Args:
        path: Path of the file, or an address on the Hugging Face Hub. `hf://user/name` reads
            `model.safetensors` of that repository, and
            `hf://user/name@revision/file.safetensors` another file of a branch, tag or commit.
        model: The model to return, instead of one that is created from the description in the
            file.

    Returns:
        The model and its variables, as a pair with more attributes: see `SavedModel`.

    Raises:
        FileNotFoundError: If the file does not exist.
        IsADirectoryError: If the path is a directory.
        DifferentArraysError: If the file has other arrays than the model.
        ValueError: If the file is damaged, was not written by `save`, or has no description and
            `model` is None.
        ImportError: If `path` is an address of the hub and `huggingface_hub` is not installed.
        OSError: If `path` is an address of the hub and the download fails; see
            `aff_jax.hub.download`.
    """
    if is_address(path):
        path = download(str(path))
    arrays, metadata = _read(path)
    cause = "The file is damaged." if model is None else "The file belongs to another model."
    if model is None and "model" in metadata:
        try:
            model = model_from_description(json.loads(metadata["model"]))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: the description of the model is damaged, or was written by another "
                f"version of aff_jax: {error} Create the model and pass it, as in "
                f"`aff_jax.load(path, model=model)`."
            ) from error
    if model is None:
        raise ValueError(
            f"{path}: the file has variables alone, without the description of their model. Create "
            f"the model and pass it, as in `aff_jax.load(path, model=model)`."
        )
    wide = [name for name, array in arrays.items() if array.dtype.itemsize > 4]
    if wide and jax.dtypes.canonicalize_dtype(float) == np.float32:
        raise ValueError(
            f"{path}: {len(wide)} arrays are in double precision, among them {wide[0]}, and JAX "
            f"would convert them to single precision. Load the file under `jax.enable_x64(True)`."
        )
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    variables = traverse_util.unflatten_dict(leaves, sep="/")
    try:
        wrong = _list_misfits(model, variables)
    except ValueError as error:  # such as a fusion that is not registered in this program
        raise ValueError(
            f"{path}: the model in the file cannot be called: {error} A fusion of your own must be "
            f"registered first; or pass the model, as in `aff_jax.load(path, model=model)`."
        ) from error
    if wrong:
        raise DifferentArraysError(
            f"{path}: the arrays do not match the model {type(model).__name__}", wrong, cause
        )
    return SavedModel(model, variables, *_read_context(path, metadata))


def _read_context(
    path: str | PathLike[str], metadata: Mapping[str, str]
) -> tuple[ImageTask | None, dict[str, Any]]:
    """Return the image task and the origin of the variables."""
    try:
        task = json.loads(metadata.get("image_task", "null"))
        image_task = None if task is None else ImageTask.from_json(task)
        return image_task, dict(json.loads(metadata.get("origin", "{}")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the description of the images is damaged: {error}") from error


def _read(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a file that `save` wrote.

    Raises:
        OSError: If the file is missing, or is a directory.
        ValueError: If it is damaged or another file. The message says what it is and what to do.
    """
    expected = f"{path}: expected a file written by aff_jax.save"
    if Path(path).is_dir():
        raise IsADirectoryError(f"{expected}, got {describe_directory(path)}.")
    if "://" in str(path) and not Path(path).exists():
        raise ValueError(
            f"{expected}, or an address hf://USER/NAME of the Hugging Face Hub. Download files of "
            f"other addresses first."
        )
    kind = detect_file_type(path)
    framework = {"torch": "from_torch", "pickle": "from_torch", "mxnet": "from_mxnet"}.get(kind)
    if framework:
        advice = _CONVERT.format(path=path, function=framework)
        raise ValueError(f"{expected}, got {describe_file_type(kind)}. {advice}")
    if kind not in ("safetensors", "unknown"):
        raise ValueError(f"{expected}, got {describe_file_type(kind)}.")
    arrays, metadata = read_safetensors(path)
    if not is_saved(metadata):
        advice = _CONVERT.format(path=path, function="from_torch")
        raise ValueError(
            f"{expected}, whose metadata describe the model; found the metadata "
            f"{sorted(metadata)}. Probably it is a PyTorch checkpoint. {advice}"
        )
    return arrays, metadata


def _flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays by name.

    Raises:
        ValueError: If a part of a name is not a string, or has a slash.
    """
    flat = traverse_util.flatten_dict(dict(variables))
    for path in flat:
        for part in path:
            if not isinstance(part, str) or "/" in part:
                raise ValueError(
                    f"expected strings without slashes as names of variables, got {part!r} in "
                    f"{path}. Arrays are named by their paths, with slashes."
                )
    return {"/".join(path): leaf for path, leaf in flat.items()}


def _check_collections(model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Raise `ValueError` if there are collections that modules of `aff_jax` do not have."""
    unknown = [name for name in variables if name not in _COLLECTIONS]
    if not unknown or not type(model).__module__.startswith("aff_jax."):
        return  # a registered fusion of one's own may have any collections
    if "params" in variables:
        advice = "Leave these out: they are not part of the model."
    else:
        advice = "Probably this is the collection params alone: pass all variables."
    raise ValueError(
        f"expected the variables of a {type(model).__name__}, with the collections params and "
        f"batch_stats, got {', '.join(map(str, variables))}. Nothing was written. {advice}"
    )


def _list_misfits(model: nn.Module, variables: Mapping[str, Any]) -> list[str]:
    """List the arrays that are missing, unexpected or misshapen in a module of `aff_jax`.

    Raises:
        ValueError: If the module cannot be called, such as for an unknown value of a field.
    """
    arrays = _flatten(variables)
    found = {n: np.shape(leaf) for n, leaf in arrays.items() if not n.startswith(UNREAD)}
    if type(model) in model_classes():
        structures = [inspect_module(model, (), channels=image_channels(variables))]
    elif type(model).__module__.startswith("aff_jax."):
        structures = _possible_structures(model, found.values())
    else:
        return []  # the inputs of other modules are unknown, and so are the shapes of variables
    expected = [{n: leaf.shape for n, leaf in _flatten(s.variables).items()} for s in structures]
    return min((list_differences(shapes, found) for shapes in expected), key=len)


def _possible_structures(model: nn.Module, shapes: Iterable[tuple[int, ...]]) -> list[Structure]:
    """List the structures of a fusion or MS-CAM for each number of channels that it may have.

    The number of channels is the size of an axis of a variable, such as of the last kernel.

    Raises:
        ValueError: If the module cannot be called with any of these numbers.
    """
    structures, errors = [], []
    for channels in sorted({size for shape in shapes for size in shape if size} or {1}):
        x = jnp.zeros((2, 2, 2, channels))
        try:
            structures.append(inspect_module(model, (x,) if isinstance(model, MSCAM) else (x, x)))
        except ValueError as error:  # such as groups of a norm that do not divide the channels
            errors.append(error)
    if not structures:
        raise errors[-1]
    return structures


def is_saved(metadata: Mapping[str, str]) -> bool:
    """Return whether `save` wrote the .safetensors file with these metadata.

    Args:
        metadata: Metadata in the header of the file.

    Returns:
        True if `save` wrote it.
    """
    return metadata.get("format") == _FORMAT
