"""PyTorch's files in, read by PyTorch itself and only after a look at what is in them.

A `.pth` file is a pickle, and a pickle is a program: `torch.load(weights_only=True)` runs only the
few functions that build tensors. Before that, the checks here refuse files that name anything
else, and damaged ones, at which PyTorch would stumble in many ways: it compares no checksums, and
makes memory for a storage before it looks for the values.
"""

import io
import mmap
import os
import pickletools
import re
import zipfile
from collections import deque
from os import PathLike
from types import ModuleType
from typing import Any, BinaryIO

__all__ = ["import_torch", "read_torch_file"]

PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.(set|complex)|_codecs\.encode"
    r"|torch(\.cuda|\.storage)?\.\w+Storage|torch\.(Size|device|bool|[a-z]+\d+\w*)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.Parameter"
)
"""Names that the pickle of a training checkpoint may mention; PyTorch has a list of its own."""

INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
"""Opcodes that push a number; pickles never fetch one from their memory."""

DOS_DIRECTORY = 0x10
"""The attribute of a directory in a zip archive."""

PICKLES_OF_OLD_FILE = 5
"""Magic number, version, system, the state itself, the storages' keys; their values follow."""


def read_torch_file(path: str | PathLike[str]) -> Any:
    """What torch.save wrote: tensors in plain containers. Takes as much memory as the file.

    Raises:
        OSError: the file is missing or cannot be read.
        ImportError: PyTorch is missing or too old.
        ValueError: the file holds code, or is damaged; gives the reason.
    """
    torch = import_torch(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if size == 0:
                raise ValueError("it is empty")
            names = _check_archive(file, size) if _is_zip(file) else _check_old_file(file, size)
        except Exception as error:  # zipfile and pickletools raise many types
            raise ValueError(
                f"{path}: not a readable PyTorch file of {size} bytes: {error}. Probably it is "
                f"damaged or incomplete, or something else wrote it; fetch or save it again"
            ) from error
    if code := _code(names):
        raise ValueError(
            f"{path}: refused, because it holds code: loading it would call {', '.join(code[:5])}. "
            f"Expected a plain dict of tensors. Probably a whole model was saved; if you trust it, "
            f"convert it where it was made: `torch.save(model.state_dict(), ...)`"
        )
    try:
        # Not mapped into memory: when a mapped file is cut short, the process ends.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of as many types as there are ways to be damaged
        reason = str(error).strip().split(". ")[0] or type(error).__name__
        raise ValueError(f"{path}: PyTorch cannot read it: {reason}") from error


def import_torch(path: str | PathLike[str]) -> ModuleType:
    """PyTorch, for the sake of the file at `path`.

    Raises:
        ImportError: it is missing, or before 2.10; says what to install.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path}: PyTorch's files need PyTorch, which cannot be imported: "
            f"install the extra 'torch', as in pip install -e '.[torch]' in a clone of aff_jax. "
            f"Files that end in .safetensors do without"
        ) from error
    # Before 2.6 `weights_only` could be escaped (CVE-2025-32434), and before 2.10 a storage larger
    # than its record was read past its end.
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10):
        raise ImportError(
            f"{path}: expected PyTorch 2.10 or later, got {torch.__version__}, in which a bad "
            f"file can do harm: pip install --upgrade 'torch>=2.10'"
        )
    return torch


def _is_zip(file: BinaryIO) -> bool:
    return file.read(4) == b"PK\x03\x04"


def _check_archive(file: BinaryIO, size: int) -> set[str]:
    """Since PyTorch 1.6: a zip archive of one pickle, and a record for each storage."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise ValueError("it is a TorchScript program; save its state_dict() instead")
        for entry in entries:
            # For a record that claims to be a directory, or to have two sizes, PyTorch returns
            # memory that nobody wrote to.
            directory = entry.external_attr & DOS_DIRECTORY
            compressed = entry.compress_type != zipfile.ZIP_STORED
            if directory or compressed or entry.compress_size != entry.file_size:
                raise ValueError(f"record {entry.filename!r} is not stored as torch.save stores it")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its records would take more than that")
        if damaged := archive.testzip():
            raise ValueError(f"record {damaged!r} does not have the checksum it was saved with")
        pickles = [archive.read(e) for e in entries if e.filename.endswith("/data.pkl")]
    return set().union(*(_check_pickle(io.BytesIO(p), size, ["TUPLE"]) for p in pickles))


def _check_old_file(file: BinaryIO, size: int) -> set[str]:
    """Before PyTorch 1.6: pickles one after the other. Of plain pickles there is but one."""
    names: set[str] = set()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(PICKLES_OF_OLD_FILE):
            if content.tell() < size:
                names |= _check_pickle(content, size, ["NONE", "TUPLE"])
    return names


def _check_pickle(stream: Any, size: int, after: list[str]) -> set[str]:
    """The names that a pickle mentions; nothing in it is run.

    Storages are referred to by (..., elements) or, in old files, (..., elements, None), which
    ends in the opcodes `after`. The file must have at least a byte for each of the elements.
    """
    names: set[str] = set()
    wrong = ""
    recent: deque[tuple[str, Any]] = deque(maxlen=3)
    for opcode, argument, position in pickletools.genops(stream):
        if "PUT" in opcode.name or opcode.name == "MEMOIZE":  # remembers, and changes nothing
            continue
        if opcode.name in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            names.add(".".join(str(argument) for _, argument in list(recent)[-2:]))
        elif "PERSID" in opcode.name:
            (kind, elements), *rest = list(recent)[-1 - len(after) :] or [("", None)]
            if kind not in INTEGERS or [name for name, _ in rest] != after:
                wrong = wrong or f"the storage at byte {position} of a pickle has no known size"
            elif not 0 <= elements <= size:
                wrong = wrong or f"a storage would have {elements} elements"
        recent.append((opcode.name, argument))
    if wrong and not _code(names):  # whole models refer to more than storages
        raise ValueError(wrong)
    return names


def _code(names: set[str]) -> list[str]:
    return sorted(name for name in names if not PLAIN.fullmatch(name))
