"""Read PyTorch's `.pth` files, after checking that they are safe.

A `.pth` file is a pickle, and loading a pickle runs code. `torch.load(weights_only=True)` runs only
the functions that build tensors. The checks here come first. They reject files that mention any
other function, and damaged files: PyTorch does not compare checksums, and it allocates a storage
before it reads the values.
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
"""Names that the pickle of a training checkpoint may mention. PyTorch has its own list as well."""

INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
"""Opcodes that push an integer. Pickles do not memoize integers."""

DOS_DIRECTORY = 0x10
"""File attribute of a directory in a zip archive."""

PICKLES_OF_OLD_FILE = 5
"""Number of pickles: magic number, version, system, state, keys of the storages."""


def read_torch_file(path: str | PathLike[str]) -> Any:
    """Read a file that `torch.save` wrote.

    It takes as much memory as the file has bytes.

    Args:
        path: Path of the file.

    Returns:
        The saved object: CPU tensors in plain containers.

    Raises:
        OSError: If the file is missing or cannot be read.
        ImportError: If PyTorch is missing or too old.
        ValueError: If the file contains code or is damaged. The message has the reason.
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
                f"damaged, incomplete or of another format; download or save it again"
            ) from error
    if code := _code(names):
        raise ValueError(
            f"{path}: refused, because it contains code: loading it would call "
            f"{', '.join(code[:5])}. Expected a plain dict of tensors. Probably a whole model was "
            f"saved. If you trust the file, load it with the code that wrote it and save "
            f"`model.state_dict()` instead"
        )
    try:
        # No `mmap=True`: if a mapped file is truncated, reading it kills the process (SIGBUS).
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types
        reason = str(error).strip().split(". ")[0] or type(error).__name__
        raise ValueError(f"{path}: PyTorch cannot read it: {reason}") from error


def import_torch(path: str | PathLike[str]) -> ModuleType:
    """Import PyTorch, which is an optional dependency.

    Args:
        path: File to read or write, for the message.

    Returns:
        The module `torch`.

    Raises:
        ImportError: If PyTorch is missing or older than 2.10. The message says what to install.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path}: PyTorch's files need PyTorch, which cannot be imported. Install the extra "
            f"'torch', as in `pip install -e '.[torch]'` in a clone of aff_jax. Files in "
            f".safetensors format don't need it"
        ) from error
    # Before 2.6, `weights_only=True` could be bypassed (CVE-2025-32434). Before 2.10, a storage
    # larger than its record was read past its end.
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10):
        raise ImportError(
            f"{path}: expected PyTorch 2.10 or later, got {torch.__version__}, in which malicious "
            f"files are unsafe to load: pip install --upgrade 'torch>=2.10'"
        )
    return torch


def _is_zip(file: BinaryIO) -> bool:
    return file.read(4) == b"PK\x03\x04"


def _check_archive(file: BinaryIO, size: int) -> set[str]:
    """Check a file of PyTorch 1.6 or later: a zip archive of one pickle and the storages.

    Returns:
        The names that the pickle mentions.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise ValueError("it is a TorchScript program; save its state_dict() instead")
        for entry in entries:
            # PyTorch returns uninitialized memory for a record that is marked as a directory or
            # whose two sizes differ.
            directory = entry.external_attr & DOS_DIRECTORY
            compressed = entry.compress_type != zipfile.ZIP_STORED
            if directory or compressed or entry.compress_size != entry.file_size:
                raise ValueError(f"record {entry.filename!r} is not stored as torch.save stores it")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its records are larger than the file")
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of record {damaged!r} is wrong")
        pickles = [archive.read(e) for e in entries if e.filename.endswith("/data.pkl")]
    return set().union(*(_check_pickle(io.BytesIO(p), size, ["TUPLE"]) for p in pickles))


def _check_old_file(file: BinaryIO, size: int) -> set[str]:
    """Check a file of PyTorch before 1.6, which is several pickles, or a single plain pickle.

    Returns:
        The names that the pickles mention.
    """
    names: set[str] = set()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(PICKLES_OF_OLD_FILE):
            if content.tell() < size:
                names |= _check_pickle(content, size, ["NONE", "TUPLE"])
    return names


def _check_pickle(stream: Any, size: int, after: list[str]) -> set[str]:
    """Check a pickle without running it.

    A reference to a storage is a tuple (..., elements) or, in old files, (..., elements, None).
    The opcodes `after` end it. The file must have at least one byte per element.

    Returns:
        The names that the pickle mentions.
    """
    names: set[str] = set()
    wrong = ""
    recent: deque[tuple[str, Any]] = deque(maxlen=3)
    for opcode, argument, position in pickletools.genops(stream):
        if "PUT" in opcode.name or opcode.name == "MEMOIZE":  # leaves the stack as it is
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
                wrong = wrong or f"a storage of {elements} elements is larger than the file"
        recent.append((opcode.name, argument))
    if wrong and not _code(names):  # whole models have other references; they contain code
        raise ValueError(wrong)
    return names


def _code(names: set[str]) -> list[str]:
    return sorted(name for name in names if not PLAIN.fullmatch(name))
