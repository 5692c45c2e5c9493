"""Read MXNet's `.params` files without MXNet.

`mx.nd.save`, Gluon's `save_parameters` and Module's checkpoints all write one list of arrays,
little-endian and without padding::

    uint64 0x112, uint64 reserved
    uint64 count, then each array
        uint32 version        0xF993FAC8 (1), 0xF993FAC9 (2), 0xF993FACA (3); the oldest files
                              have no version and begin with the number of axes
        int32  storage        versions 2 and 3: 0 dense, 1 row-sparse, 2 compressed sparse rows
        uint32 axes           versions 1 to 3
        int64  size           of each axis; uint32 where there is no version
        int32  device, int32  the device's number, when the array was saved
        int32  type
        the values, in C order
    uint64 count, then each name
        uint64 length, then that many bytes of UTF-8

References:
    Apache MXNet 1.9: `NDArray::Save` and `NDArray::Load` in src/ndarray/ndarray.cc, `TShape` in
    include/mxnet/tuple.h, `TypeFlag` in mshadow/base.h.
"""

import math
import os
import struct
from io import BufferedReader
from os import PathLike
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["read_mxnet_params"]

_LIST_MAGIC = 0x112
_VERSION_1, _VERSION_2, _VERSION_3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_STORAGES = {0: "dense", 1: "row-sparse", 2: "compressed sparse row"}
_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f8"),
    2: np.dtype("<f2"),
    3: np.dtype("u1"),
    4: np.dtype("<i4"),
    5: np.dtype("i1"),
    6: np.dtype("<i8"),
    7: np.dtype("?"),
    8: np.dtype("<i2"),
    9: np.dtype("<u2"),
    10: np.dtype("<u4"),
    11: np.dtype("<u8"),
    12: np.dtype(ml_dtypes.bfloat16),
}

_MAX_AXES = 32
"""Largest number of axes. Kernels of 3-d convolutions have 5; NumPy allows 64."""

_SMALLEST_ARRAY = 21
"""Number of bytes of an array without a version, with one axis and one value of one byte."""

_SMALLEST_NAME = 8
"""Number of bytes of an empty name, which has only its length."""


def read_mxnet_params(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of a `.params` file.

    The prefixes `arg:` and `aux:` of Module's checkpoints are removed. No array is allocated that
    is larger than the rest of the file.

    Args:
        path: Path of the file.

    Returns:
        Arrays by name, in the order, layouts and dtypes of the file.

    Raises:
        OSError: If the file is missing or cannot be read.
        ValueError: If the file is damaged or of another format. The message has the byte offset and
            the reason.
    """
    with open(path, "rb") as file:
        reader = _Reader(os.fspath(path), file)
        reader.expect_list()
        count = reader.count("arrays", _SMALLEST_ARRAY)
        arrays = [reader.array(f"array {index} of {count}") for index in range(count)]
        names = reader.names(count)
        if reader.left:
            raise reader.error(f"{reader.left} bytes follow the last name; expected the end")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """Sequential reader whose errors have the byte offset of the current field."""

    def __init__(self, path: str, file: BufferedReader) -> None:
        self.path = path
        self.file = file
        self.left = os.fstat(file.fileno()).st_size
        self.position = 0  # start of the current field

    def error(self, reason: str) -> ValueError:
        """Return the error of a file that cannot be read."""
        return ValueError(
            f"{self.path}: not a readable MXNet .params file. At byte {self.position}: {reason}. "
            f"Probably the file is damaged, incomplete or of another format; download or save it "
            f"again."
        )

    def claim(self, size: int, what: str) -> None:
        """Check that `size` bytes are left for `what`, before memory is allocated for them."""
        self.position = self.file.tell()
        if size > self.left:
            raise self.error(f"{what} would take {size} bytes, but the file has {self.left} left")
        self.left -= size

    def take(self, size: int, what: str) -> bytes:
        """Read `size` bytes."""
        self.claim(size, what)
        content = self.file.read(size)
        if len(content) != size:
            raise self.error("the file became shorter while it was read")
        return content

    def number(self, form: str, what: str) -> int:
        """Read one number; `form` is a format character of `struct`."""
        return self.numbers(form, 1, what)[0]

    def numbers(self, form: str, count: int, what: str) -> tuple[int, ...]:
        """Read several numbers of the same format."""
        form = f"<{count}{form}"
        return struct.unpack(form, self.take(struct.calcsize(form), what))

    def count(self, what: str, smallest: int) -> int:
        """Read the number of `what`, each of which takes at least `smallest` bytes."""
        count = self.number("Q", f"the number of {what}")
        if count * smallest > self.left:
            raise self.error(f"{count} {what} need more than the {self.left} bytes that follow")
        return count

    def expect_list(self) -> None:
        """Check the header of a list of arrays."""
        magic = self.number("Q", "the magic number of a list of arrays")
        if magic != _LIST_MAGIC:
            zipped = magic & 0xFFFFFFFF == 0x04034B50
            hint = "; this is a zip archive, as MXNet 2 writes it: try numpy.load" if zipped else ""
            raise self.error(f"expected the magic number {_LIST_MAGIC:#x}, got {magic:#x}{hint}")
        self.number("Q", "the reserved number")

    def array(self, what: str) -> np.ndarray:
        """Read an array."""
        shape = self.shape(what)
        self.numbers("i", 2, f"the device of {what}")  # unused
        flag = self.number("i", f"the type of {what}")
        if flag not in _DTYPES:
            raise self.error(f"{what} has the unknown type {flag}; expected 0 to {max(_DTYPES)}")
        # `math.prod` cannot overflow, unlike `np.prod`.
        self.claim(math.prod(shape) * _DTYPES[flag].itemsize, f"{what}, of shape {shape},")
        values = np.empty(shape, _DTYPES[flag])
        if self.file.readinto(values.reshape(-1).view(np.uint8).data) != values.nbytes:
            raise self.error("the file became shorter while it was read")
        return values

    def shape(self, what: str) -> tuple[int, ...]:
        """Read the version, the storage and the shape of an array."""
        version = self.number("I", f"the version of {what}")
        if version in (_VERSION_2, _VERSION_3):
            storage = self.number("i", f"the storage of {what}")
            if storage != 0:
                raise self.error(
                    f"{what} is stored as {_STORAGES.get(storage, f'unknown kind {storage}')}; "
                    f"expected dense. In MXNet, convert it with `array.tostype('default')`"
                )
        versioned = version in (_VERSION_1, _VERSION_2, _VERSION_3)
        # The oldest files have no version; this number is the number of axes.
        axes = self.number("I", f"the number of axes of {what}") if versioned else version
        if axes > _MAX_AXES:
            known = "" if versioned else f", or a version {_VERSION_1:#x} to {_VERSION_3:#x}"
            raise self.error(f"{what}: expected at most {_MAX_AXES} axes{known}; got {axes:#x}")
        shape = self.numbers("q" if versioned else "I", axes, f"the shape of {what}")
        # A size below 1, and before version 3 also a shape without axes, means that the shape is
        # unknown and no values follow.
        if (axes == 0 and version != _VERSION_3) or any(size < 1 for size in shape):
            raise self.error(
                f"{what} has the shape {shape}, which has no values; it was probably saved before "
                f"it was initialized"
            )
        return shape

    def names(self, expected: int) -> list[str]:
        """Read the names of the arrays, without the prefixes of Module's checkpoints."""
        count = self.count("names", _SMALLEST_NAME)
        if count != expected:
            unnamed = "; save a dict, not a list" if count == 0 else ""
            raise self.error(f"expected {expected} names, one for each array; got {count}{unnamed}")
        names: dict[str, None] = {}
        for index in range(count):
            length = self.number("Q", f"the length of name {index}")
            try:
                name = self.take(length, f"name {index}").decode()
            except UnicodeDecodeError as error:
                raise self.error(f"name {index} is not UTF-8: {error}") from None
            if name.startswith(("arg:", "aux:")):
                name = name[4:]
            if name in names:
                raise self.error(f"name {index}, {name!r}, is a duplicate")
            names[name] = None
        return list(names)
