"""Read weight files of any supported format, and write PyTorch's.

The formats are::

    .safetensors   read and written by `aff_jax.files.safetensors`
    .pth, .pt      PyTorch state dicts, read by `torch_files` and written here
    .params        MXNet's lists of arrays, read by `mxnet_params`

The content of a file decides how it is read, and the extension only where the content is unknown.
Damaged and malicious files raise a `ValueError` with the path and the reason. No memory is
allocated for arrays that are larger than their file. Files are written atomically.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from aff_jax.convert.mxnet_params import read_mxnet_params
from aff_jax.convert.torch_files import import_torch, read_torch_file
from aff_jax.files.atomic_write import atomic_file
from aff_jax.files.file_types import describe_directory, describe_file_type, detect_file_type
from aff_jax.files.safetensors import read_safetensors, to_array

__all__ = ["COUNTERS", "read_weights", "type_of_weights", "unwrap_state_dict", "write_torch"]

_WRAPPINGS = ("state_dict", "model_state_dict", "model", "params", "net", "ema")
"""Keys under which training scripts save a state dict. The first that has one is used."""

_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that `DataParallel` and `torch.compile` add to every name."""

COUNTERS = ("n_averaged",)
"""Counters of `torch.optim.swa_utils.AveragedModel`, beside the names with its prefix."""

_MAX_NESTING = 4
"""Largest number of nested dicts that are searched for weights."""


def read_weights(
    path: str | PathLike[str], refused: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Read the arrays of a weight file, and unwrap them with `unwrap_state_dict`.

    Args:
        path: Path of a file of PyTorch, MXNet or safetensors.
        refused: Types of `type_of_weights` to refuse, and the function of `aff_jax.convert` that
            reads them.

    Returns:
        Arrays by name, in the layouts and dtypes of the file.

    Raises:
        OSError: If the file is missing, a directory, or cannot be read.
        ImportError: If it is a file of PyTorch, and PyTorch is missing or too old.
        ValueError: If the file is of another type, damaged, contains code, or has no weights.
    """
    path = Path(path)
    found = type_of_weights(path)
    if refused and found in refused:
        raise ValueError(
            f"{path}: got {describe_file_type(found)}, whose names belong to another framework. "
            f"Read it with aff_jax.convert.{refused[found]}."
        )
    arrays = unwrap_state_dict(_READERS[found](path), str(path))
    size = path.stat().st_size
    for name, array in arrays.items():
        # With strides of 0, a tensor of any size can be a view of one value.
        if array.nbytes > size:
            raise ValueError(
                f"{path}: {name!r} of shape {array.shape} needs {array.nbytes} bytes, but the "
                f"file has {size}. Probably an expanded tensor was saved: call `.contiguous()` "
                f"before saving. Or the file is damaged."
            )
    return arrays


def type_of_weights(path: str | PathLike[str]) -> str:
    """Detect from the content of a file which framework wrote its weights.

    The extension decides where the content is unknown, so that its reader reports the damage.

    Args:
        path: Path of the file.

    Returns:
        "torch", "mxnet" or "safetensors".

    Raises:
        FileNotFoundError: If the file does not exist.
        IsADirectoryError: If the path is a directory.
        OSError: If the file cannot be read.
        ValueError: If the file is of another type. The message says which, and what to do.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a weight file, got {describe_directory(path)}.")
    if not path.is_file():  # reading a pipe could block forever
        raise OSError(f"{path}: expected a weight file, got a device or a pipe.")
    found = detect_file_type(path)
    if found in _READERS:
        return found
    if found == "pickle":
        return "torch"
    suffix = path.suffix.lower()
    if found in ("unknown", "empty") and suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    raise ValueError(
        f"{path}: expected weights of PyTorch, MXNet or safetensors, such as a file of type "
        f"{', '.join(_SUFFIXES)}, got {describe_file_type(found)}."
    )


def unwrap_state_dict(state: Any, where: str = "the state dict") -> dict[str, np.ndarray]:
    """Extract the arrays of a state dict.

    If the state dict is nested under one of `_WRAPPINGS`, everything else is dropped. A prefix in
    `_PREFIXES` is removed if all names have it, and so are `COUNTERS`.

    Args:
        state: Dict of PyTorch tensors (on any device), NumPy or JAX arrays, or other objects with
            `__array__`.
        where: Start of error messages.

    Returns:
        Arrays by name. They may share the memory of the inputs.

    Raises:
        ValueError: If there is no state dict, or a value in it is not an array.
    """
    weights = _find_weights(state, _MAX_NESTING)
    if weights is None:
        got = f"{type(state).__module__}.{type(state).__qualname__}"
        if isinstance(state, Mapping):
            got = f"a dict with the keys {', '.join(map(repr, list(state)[:20])) or '(none)'}"
        advice = ". Pass its state_dict()" if hasattr(state, "state_dict") else ""
        nested = _keys_of_weights(state)
        if nested:
            advice = (
                f". Weights are under {', '.join(map(repr, nested))}: load the file with "
                f"`torch.load(path, weights_only=True)`, and pass the dict of that key"
            )
        raise ValueError(
            f"{where}: expected a dict of arrays, or one under one of the keys "
            f"{', '.join(map(repr, _WRAPPINGS))}; got {got}{advice}."
        )
    odd = [name for name, value in weights.items() if not _is_entry(name, value)]
    if odd:
        listed = ", ".join(f"{name!r} ({type(weights[name]).__name__})" for name in odd[:10])
        raise ValueError(
            f"{where}: expected arrays by name, but {len(odd)} of {len(weights)} entries are "
            f"something else: {listed}. Remove them, or pass only the weights."
        )
    weights = {name: value for name, value in weights.items() if name not in COUNTERS}
    while weights and (
        prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in weights)), None)
    ):
        stripped = {name.removeprefix(prefix): value for name, value in weights.items()}
        weights = {name: value for name, value in stripped.items() if name not in COUNTERS}
    return {name: to_array(value, f"{where}: {name!r}") for name, value in weights.items()}


def _keys_of_weights(state: Any) -> list[str]:
    """Return the keys under which a dict has dicts with arrays."""
    if not isinstance(state, Mapping):
        return []
    return [str(k) for k, value in state.items() if _find_weights(value, _MAX_NESTING) is not None]


def _find_weights(state: Any, depth: int) -> Mapping[Any, Any] | None:
    """Return the innermost dict, under keys of `_WRAPPINGS`, that has an array."""
    if not isinstance(state, Mapping) or depth == 0:  # a pickled dict may contain itself
        return None
    for key in _WRAPPINGS:
        if (found := _find_weights(state.get(key), depth - 1)) is not None:
            return found
    return state if any(_is_entry(*item) for item in state.items()) else None


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and hasattr(value, "__array__")


def write_torch(
    path: str | PathLike[str], arrays: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write arrays as a PyTorch state dict, for `load_state_dict(torch.load(path))`.

    Args:
        path: Path of the file.
        arrays: Arrays by name.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        ImportError: If PyTorch is missing or too old.
        ValueError: If a value is not an array, or has a dtype that PyTorch does not support.
    """
    torch = import_torch(path)
    tensors = {}
    for name, value in arrays.items():
        # Copy: `torch.from_numpy` accepts neither negative strides nor read-only arrays.
        array = np.array(to_array(value, f"{path}: {name!r}"), order="C")
        try:
            if array.dtype == ml_dtypes.bfloat16:
                tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
            else:
                tensors[name] = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            message = f"{path}: {name!r} cannot be converted to a tensor: {error}"
            raise ValueError(message) from error
    with atomic_file(path, overwrite) as partial, open(partial, "wb") as file:
        torch.save(tensors, file)


_READERS: dict[str, Callable[[Path], Any]] = {
    "torch": read_torch_file,
    "safetensors": lambda path: read_safetensors(path)[0],
    "mxnet": read_mxnet_params,
}
"""For each type of file, the function that reads it."""

_SUFFIXES = {".pth": "torch", ".pt": "torch", ".safetensors": "safetensors", ".params": "mxnet"}
"""Types of the files whose content is unknown, by extension."""
