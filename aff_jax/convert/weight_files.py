"""Files of weights: a name -> array dict in and out, whatever wrote the file.

    .safetensors   in and out, with metadata
    .pth, .pt      PyTorch's state dicts, in and out: `torch_files`
    .params        MXNet's lists of arrays, in: `mxnet_params`

Damaged and hostile files end in a `ValueError` that gives file and reason. Nothing is made for a
size that a file claims and could not hold, and a file that is written is whole or not there.
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
from aff_jax.files.safetensors import read_safetensors, to_array

__all__ = [
    "read_weights",
    "unwrap_state_dict",
    "write_torch",
]

WRAPPINGS = ("state_dict", "model_state_dict", "model", "params", "net", "ema")
"""Keys under which training scripts keep a state dict; the first that holds one counts."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel, and what torch.compile puts before every name."""

MAX_NESTING = 4


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
    return {name: to_array(value, f"{where}: {name!r}") for name, value in weights.items()}


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
        array = np.array(to_array(value, f"{path}: {name!r}"), order="C")
        try:
            if array.dtype == ml_dtypes.bfloat16:
                tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
            else:
                tensors[name] = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name!r} cannot become a tensor: {error}") from error
    with atomic_file(path, overwrite) as partial, open(partial, "wb") as file:
        torch.save(tensors, file)


READERS: dict[str, Callable[[Path], Any]] = {
    ".pth": read_torch_file,
    ".pt": read_torch_file,
    ".safetensors": lambda path: read_safetensors(path)[0],
    ".params": read_mxnet_params,
}
