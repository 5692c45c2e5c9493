"""Files of weights: a name -> array dict in and out, whatever wrote the file.

    .safetensors   in and out, with metadata
    .pth, .pt      PyTorch's state dicts, in and out: `torch_files`
    .params        MXNet's lists of arrays, in: `mxnet_params`

Damaged and hostile files end in a `ValueError` that gives file and reason. Nothing is made for a
size that a file claims and could not hold, and a file that is written is whole or not there.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from aff_jax.convert.mxnet_params import read_mxnet_params
from aff_jax.convert.torch_files import import_torch, read_torch_file

__all__ = [
    "read_metadata",
    "read_safetensors",
    "read_weights",
    "unwrap_state_dict",
    "write_safetensors",
    "write_torch",
]

WRAPPINGS = ("state_dict", "model_state_dict", "model", "params", "net", "ema")
"""Keys under which training scripts keep a state dict; the first that holds one counts."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel, and what torch.compile puts before every name."""

MAX_NESTING = 4

HEADER_LIMIT = 100_000_000
"""Bytes that the header of a .safetensors file may have, by the format."""


def read_weights(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a weight file by name, without wrappings: see `unwrap_state_dict`.

    Raises:
        OSError: there is no such file, it is a directory, or it cannot be read.
        ImportError: the ending is .pth or .pt and PyTorch is missing or too old.
        ValueError: the ending is unknown, or the file is damaged, or holds code or no weights.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not path.is_file():  # to read a pipe could take for ever
        raise IsADirectoryError(f"{path}: expected a file of weights, got a directory or a device")
    if path.suffix.lower() not in READERS:
        raise ValueError(
            f"{path}: unknown ending {path.suffix!r}; known are {', '.join(READERS)}. If "
            f"torch.save wrote it, as it does many .ckpt, .bin and .pth.tar, rename it to .pth"
        )
    arrays = unwrap_state_dict(READERS[path.suffix.lower()](path), str(path))
    size = path.stat().st_size
    for name, array in arrays.items():
        # With strides of zero, a tensor of any size can stand on one value.
        if array.nbytes > size:
            raise ValueError(
                f"{path}: {name!r} of shape {array.shape} would take {array.nbytes} bytes, but "
                f"the file has {size}. Probably a tensor was saved as it was expanded: call "
                f"`.contiguous()` before; or the file is damaged"
            )
    return arrays


def unwrap_state_dict(state: Any, where: str = "the state dict") -> dict[str, np.ndarray]:
    """Arrays by name from what a training script saved, or hands over.

    The nesting under one of `WRAPPINGS` comes off, and all that lies beside it, and so do those of
    `PREFIXES` that every name has. Values may be tensors of PyTorch (on any device), arrays of
    NumPy or JAX, or anything with `__array__`; the result may share their memory. `where` is what
    error messages begin with.

    Raises:
        ValueError: nothing looks like a state dict, or an entry of it is not an array.
    """
    weights = _find_weights(state, MAX_NESTING)
    if weights is None:
        got = f"{type(state).__module__}.{type(state).__qualname__}"
        if isinstance(state, Mapping):
            got = f"a dict with the keys {', '.join(map(repr, list(state)[:20])) or '(none)'}"
        advice = "; pass its state_dict()" if hasattr(state, "state_dict") else ""
        raise ValueError(
            f"{where}: expected arrays by name, at the top or under one of the keys "
            f"{', '.join(map(repr, WRAPPINGS))}; got {got}{advice}"
        )
    odd = [name for name, value in weights.items() if not _is_entry(name, value)]
    if odd:
        listed = ", ".join(f"{name!r} ({type(weights[name]).__name__})" for name in odd[:10])
        raise ValueError(
            f"{where}: expected an array under each name, but {len(odd)} of {len(weights)} "
            f"entries are something else: {listed}. Leave them out, or pass only the weights"
        )
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return {name: _to_array(value, f"{where}: {name!r}") for name, value in weights.items()}


def _find_weights(state: Any, depth: int) -> Mapping[Any, Any] | None:
    """The innermost mapping, along `WRAPPINGS`, that holds an array."""
    if not isinstance(state, Mapping) or depth == 0:  # a dict from a file may contain itself
        return None
    for key in WRAPPINGS:
        if (found := _find_weights(state.get(key), depth - 1)) is not None:
            return found
    return state if any(_is_entry(*item) for item in state.items()) else None


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and hasattr(value, "__array__")


def _to_array(value: Any, what: str) -> np.ndarray:
    try:
        if hasattr(value, "detach"):  # a tensor, and so PyTorch is there
            value = value.detach().cpu().resolve_conj().resolve_neg()
            if str(value.dtype) == "torch.bfloat16":  # NumPy takes only its bits
                import torch

                return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
            value = value.numpy()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} cannot become an array: {error}") from error
    # Not by `dtype.kind`: that of bfloat16 is the same as that of records.
    if not issubclass(array.dtype.type, np.number | np.bool_ | ml_dtypes.bfloat16):
        raise ValueError(f"{what}: expected an array of numbers, got one of {array.dtype}")
    return array


def read_safetensors(
    path: str | PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a .safetensors file by name, and its metadata, as they were written.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file is damaged; gives the reason.
    """
    with _open_safetensors(path) as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, file.metadata() or {}


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """The metadata of a .safetensors file, without its arrays.

    Raises:
        OSError, ValueError: as `read_safetensors`.
    """
    with _open_safetensors(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _open_safetensors(path: str | PathLike[str]) -> Iterator[Any]:
    with open(path, "rb") as start:
        size = os.fstat(start.fileno()).st_size
        length = int.from_bytes(start.read(8), "little")
    room = min(size - 8, HEADER_LIMIT)
    if length > room:
        raise ValueError(
            f"{path}: not a readable .safetensors file of {size} bytes. At byte 0: expected a "
            f"header of at most {max(room, 0)} bytes, got {length}. Probably the file is "
            f"incomplete, or something else wrote it; fetch or save it again"
        )
    try:
        # Mapped into memory, the file would be there twice while arrays are copied from it.
        with safe_open(path, framework="numpy", backend="pread") as file:
            yield file
    # The last two are NumPy's, about shapes and types that it lacks.
    except (SafetensorError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a readable .safetensors file of {size} bytes, {length} of them a header "
            f"from byte 8: {error}. Probably it is damaged or incomplete; fetch or save it again"
        ) from error


def write_safetensors(
    path: str | PathLike[str],
    arrays: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write arrays, and strings about them, as one .safetensors file.

    Raises:
        FileExistsError: `path` exists, and not `overwrite`.
        ValueError: an entry is not an array, or has a dtype that the format lacks.
    """
    # What is not contiguous would be written in the wrong order, without an error. Not
    # `ascontiguousarray`, which gives scalars an axis.
    dense = {n: np.require(_to_array(v, f"{path}: {n!r}"), None, "C") for n, v in arrays.items()}
    with new_file(path, overwrite) as partial:
        try:
            # Of no arrays and an empty dict, safetensors 0.8 makes a file that it cannot read.
            save_file(dense, partial, dict(metadata) if metadata else None)
        except SafetensorError as error:
            raise ValueError(f"{path}: cannot be written: {error}") from error


def write_torch(
    path: str | PathLike[str], arrays: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write arrays as a PyTorch state dict, for `load_state_dict(torch.load(path))`.

    Raises:
        FileExistsError: `path` exists, and not `overwrite`.
        ImportError: PyTorch is missing or too old.
        ValueError: an entry is not an array, or has a dtype that PyTorch lacks.
    """
    torch = import_torch(path)
    tensors = {}
    for name, value in arrays.items():
        # A copy, because PyTorch takes neither negative strides nor what may not be written to.
        array = np.array(_to_array(value, f"{path}: {name!r}"), order="C")
        try:
            if array.dtype == ml_dtypes.bfloat16:
                tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
            else:
                tensors[name] = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name!r} cannot become a tensor: {error}") from error
    with new_file(path, overwrite) as partial, open(partial, "wb") as file:
        torch.save(tensors, file)


@contextlib.contextmanager
def new_file(path: str | PathLike[str], overwrite: bool) -> Iterator[Path]:
    """An empty file beside `path` that takes its place in the end, or disappears on an error."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; name another, or overwrite it with intent")
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that nobody else may read
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


READERS: dict[str, Callable[[Path], Any]] = {
    ".pth": read_torch_file,
    ".pt": read_torch_file,
    ".safetensors": lambda path: read_safetensors(path)[0],
    ".params": read_mxnet_params,
}
