"""Arrays in .safetensors files, with metadata."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from aff_jax.files.atomic_write import atomic_file

__all__ = ["read_metadata", "read_safetensors", "to_array", "write_safetensors"]

HEADER_LIMIT = 100_000_000
"""Bytes that the header of a .safetensors file may have, by the format."""


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
    dense = {n: np.require(to_array(v, f"{path}: {n!r}"), None, "C") for n, v in arrays.items()}
    with atomic_file(path, overwrite) as partial:
        try:
            # Of no arrays and an empty dict, safetensors 0.8 makes a file that it cannot read.
            save_file(dense, partial, dict(metadata) if metadata else None)
        except SafetensorError as error:
            raise ValueError(f"{path}: cannot be written: {error}") from error


def to_array(value: Any, what: str) -> np.ndarray:
    """Convert a tensor or an array to NumPy; `what` names it in errors.

    Raises:
        ValueError: it is not an array of numbers.
    """
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
