"""Read and write `.safetensors` files with metadata."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from aff_jax.files.atomic_write import atomic_file

__all__ = ["read_metadata", "read_safetensors", "to_array", "write_safetensors"]

_HEADER_LIMIT = 100_000_000
"""Largest header in bytes that the format allows."""


def read_safetensors(
    path: str | PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a `.safetensors` file.

    Args:
        path: Path of the file.

    Returns:
        Arrays by name, in the dtypes of the file, and the metadata.

    Raises:
        OSError: If the file is missing or cannot be read.
        ValueError: If the file is damaged, or has arrays of 4 to 8 bits such as float8. The
            message has the reason.
    """
    with _open_safetensors(path) as file:
        dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        narrow = {n: dtype for n, dtype in dtypes.items() if re.match(r"F[468](_|$)", dtype)}
        arrays = {} if narrow else {name: file.get_tensor(name) for name in dtypes}
        metadata = file.metadata() or {}
    if narrow:
        name, dtype = next(iter(narrow.items()))
        raise ValueError(
            f"{path}: expected dtypes of at least 16 bits or integers, got {dtype} in "
            f"{len(narrow)} arrays, among them {name!r}. Convert these to bfloat16 in PyTorch "
            f"first, with `tensor.to(torch.bfloat16)`, and multiply them by their scales if the "
            f"weights are quantized."
        )
    return arrays, metadata


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """Read the metadata of a `.safetensors` file, without its arrays.

    Args:
        path: Path of the file.

    Returns:
        The metadata, which is empty if the file has none.

    Raises:
        OSError: If the file is missing or cannot be read.
        ValueError: If the file is damaged. The message has the reason.
    """
    with _open_safetensors(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _open_safetensors(path: str | PathLike[str]) -> Iterator[Any]:
    """Open a file, with errors that say where it is damaged."""
    with open(path, "rb") as start:
        size = os.fstat(start.fileno()).st_size
        length = int.from_bytes(start.read(8), "little")
    limit = min(size - 8, _HEADER_LIMIT)
    if length > limit:
        raise ValueError(
            f"{path}: not a readable .safetensors file of {size} bytes. At byte 0: expected a "
            f"header of at most {max(limit, 0)} bytes, got {length}. Probably the file is "
            f"incomplete or of another format; download or save it again"
        )
    try:
        # The default backend maps the file, which takes twice the memory while arrays are copied.
        with safe_open(path, framework="numpy", backend="pread") as file:
            yield file
    # NumPy raises the last two for shapes and dtypes that it does not support.
    except (SafetensorError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a readable .safetensors file of {size} bytes, {length} of them a header "
            f"from byte 8: {error}. Probably it is damaged or incomplete; download or save it "
            f"again"
        ) from error


def write_safetensors(
    path: str | PathLike[str],
    arrays: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write arrays and metadata to a `.safetensors` file.

    Args:
        path: Path of the file.
        arrays: Arrays by name: NumPy or JAX arrays, or PyTorch tensors.
        metadata: Strings by name.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        ValueError: If a value is not an array, or has a dtype that the format does not support.
    """
    # safetensors writes arrays that are not contiguous in the wrong order, without an error.
    # `np.ascontiguousarray` would give scalars an axis; `np.require` does not.
    dense = {n: np.require(to_array(v, f"{path}: {n!r}"), None, "C") for n, v in arrays.items()}
    with atomic_file(path, overwrite) as partial:
        try:
            # safetensors 0.8 cannot read a file that it wrote with no arrays and empty metadata.
            save_file(dense, partial, dict(metadata) if metadata else None)
        except SafetensorError as error:
            raise ValueError(f"{path}: cannot be written: {error}") from error


def to_array(value: Any, what: str) -> np.ndarray:
    """Convert a PyTorch tensor, or anything with `__array__`, to NumPy.

    Args:
        value: Tensor or array.
        what: Description of the value in error messages.

    Returns:
        The array, which may share the memory of `value`.

    Raises:
        ValueError: If the value is not an array of numbers.
    """
    try:
        if hasattr(value, "detach"):  # a tensor, so PyTorch is installed
            value = value.detach().cpu().resolve_conj().resolve_neg()
            if str(value.dtype) == "torch.bfloat16":  # `Tensor.numpy` does not support bfloat16
                import torch

                return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
            value = value.numpy()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be converted to an array: {error}") from error
    # `dtype.kind` does not help: bfloat16 and structured dtypes both have "V".
    if not issubclass(array.dtype.type, np.number | np.bool_ | ml_dtypes.bfloat16):
        raise ValueError(f"{what}: expected an array of numbers, got one of {array.dtype}")
    return array
