"""Stand-ins for harmless objects that checkpoints hold besides tensors.

`torch.load(weights_only=True)` calls only functions that it is given by name. It gets these instead
of those that the file names, so that NumPy's and Python's own constructors are never called with
the arguments of an untrusted file.
"""

import argparse
import datetime
import pathlib
import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["list_stand_ins"]

_NUMBER = re.compile(r"[<>|=]?[biufc]\d{1,2}")


class DType:
    """A pickled `numpy.dtype` of numbers."""

    def __init__(self, code: str, *options: Any) -> None:
        if not _NUMBER.fullmatch(code):
            raise ValueError(f"expected a dtype of numbers, got {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1] if state[1] in ("<", ">") else "="
        self.dtype = self.dtype.newbyteorder(order)


class Version(str):
    """A version of PyTorch."""

    __slots__ = ()


class Array:
    """A pickled `numpy.ndarray`."""

    array = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        self.array = np.ndarray(shape, kind.dtype, content, order="F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype)


def _array(*arguments: Any) -> Array:
    return Array()


def _from_buffer(
    content: bytes, kind: DType, shape: tuple[int, ...], order: Any, axes: Any = None
) -> Array:
    if order not in ("C", "F"):
        raise ValueError(f"expected the order C or F of an array, got {order!r}")
    made = Array()
    made.array = np.ndarray(shape, kind.dtype, content, order=order)
    return made


def _scalar(kind: DType, content: bytes) -> Any:
    return np.ndarray((), kind.dtype, content)[()]


def _dict(*arguments: Any) -> dict[Any, Any]:
    return {}


def _list(*arguments: Any) -> list[Any]:
    return []


def _bytes(*arguments: Any) -> bytes:
    return b""  # protocol 2 calls `bytes()` for empty bytes only


def _ignored(*arguments: Any) -> None:
    return None


def list_stand_ins() -> list[tuple[Callable[..., Any], str]]:
    """Return pairs of a function and the name in a file that it stands in for."""
    names: dict[str, Callable[..., Any]] = {
        "numpy.dtype": DType,
        "numpy.ndarray": Array,
        "argparse.Namespace": argparse.Namespace,
        "types.SimpleNamespace": types.SimpleNamespace,
        "collections.defaultdict": _dict,
        "collections.deque": _list,
        "torch.torch_version.TorchVersion": Version,
    }
    for module in ("core", "_core"):
        names[f"numpy.{module}.multiarray.scalar"] = _scalar
        names[f"numpy.{module}.multiarray._reconstruct"] = _array
        names[f"numpy.{module}.numeric._frombuffer"] = _from_buffer
    for module in ("pathlib", "pathlib._local"):
        for name in ("Path", "PosixPath", "PurePosixPath"):
            names[f"{module}.{name}"] = pathlib.PurePosixPath
        for name in ("WindowsPath", "PureWindowsPath"):
            names[f"{module}.{name}"] = pathlib.PureWindowsPath
    # Only the factories of default dicts, which are never called.
    for name in ("list", "dict", "tuple", "int", "float", "str", "bool"):
        names[f"builtins.{name}"] = _ignored
    names["builtins.bytes"] = _bytes
    for kind in (
        *(datetime.date, datetime.time, datetime.datetime),
        *(datetime.timedelta, datetime.timezone),
    ):
        names[f"datetime.{kind.__name__}"] = kind
    return [(stand_in, name) for name, stand_in in names.items()]
