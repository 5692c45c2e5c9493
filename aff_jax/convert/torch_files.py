"""Read PyTorch's `.pth` files, after checking that they are safe.

A `.pth` file is a pickle, and loading a pickle runs code. `torch.load(weights_only=True)` runs only
the functions that build tensors. The checks here come first. They reject files that mention any
other function, and damaged files: PyTorch does not compare checksums, and it allocates a storage
before it reads the values.
"""

import io
import mmap
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from types import ModuleType
from typing import Any, BinaryIO

from aff_jax.convert.pickles import CheckedPickle, check_pickle, list_code
from aff_jax.convert.stand_ins import list_stand_ins

__all__ = ["import_torch", "read_torch_file"]

_DOS_DIRECTORY = 0x10
"""File attribute of a directory in a zip archive."""

_PICKLES_OF_OLD_FILE = 5
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
            is_zip = _is_zip(file)
            pickles = _check_archive(file, size) if is_zip else _check_old_file(file, size)
        except Exception as error:  # zipfile and pickletools raise many types
            raise ValueError(
                f"{path}: not a readable PyTorch file of {size} bytes: {error}. Probably it is "
                f"damaged, incomplete or of another format: download or save it again."
            ) from error
    names = {name: entry for checked in pickles.values() for name, entry in checked.names.items()}
    if code := list_code(names):
        raise ValueError(_refusal(path, code, names))
    try:
        # No `mmap=True`: if a mapped file is truncated, reading it kills the process (SIGBUS).
        with (
            torch.serialization.safe_globals(list_stand_ins()),
            _in_protocol_2(path, pickles, is_zip) as file,
        ):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types
        reason = str(error).strip().split(". ")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"{path}: PyTorch cannot read it: {reason}.") from error


def _refusal(path: str | PathLike[str], code: list[str], names: Mapping[str, str]) -> str:
    """Return the message for a file whose pickle mentions other functions than plain ones."""
    listed = ", ".join(f"{n} (in {names[n]!r})" if names[n] else n for n in code[:5])
    cause, weights = "it is a checkpoint with objects of other packages", 'loaded["state_dict"]'
    if any(name.startswith("torch.nn.modules.") for name in code):
        cause, weights = "a whole model was saved", "loaded.state_dict()"
    return (
        f"{path}: refused, because it contains code: loading it would call {listed}. Expected a "
        f"plain dict of tensors. Probably {cause}. If you trust the file, load it where the code "
        f"that wrote it is installed, and save `model.state_dict()` instead:\n"
        f'    loaded = torch.load({os.fspath(path)!r}, map_location="cpu", weights_only=False)\n'
        f'    torch.save({weights}, "weights.pth")'
    )


@contextmanager
def _in_protocol_2(
    path: str | PathLike[str], pickles: Mapping[str, CheckedPickle], is_zip: bool
) -> Iterator[Any]:
    """Yield the open file, or a temporary copy of it with its pickles in protocol 2.

    An open file, because `torch.load` reads paths that end in .safetensors in another way.
    """
    if not any(checked.is_rewritten for checked in pickles.values()):
        with open(path, "rb") as original:
            yield original
        return
    with tempfile.TemporaryFile() as copy:
        if is_zip:
            with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
                for entry in old.infolist():
                    with old.open(entry) as source, new.open(entry.filename, "w") as target:
                        if entry.filename in pickles:
                            target.write(pickles[entry.filename].content)
                        else:
                            shutil.copyfileobj(source, target)
        else:
            with open(path, "rb") as old:
                copy.writelines(checked.content for checked in pickles.values())
                old.seek(int(max(pickles, key=int)))
                shutil.copyfileobj(old, copy)
        copy.seek(0)
        yield copy


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
            f".safetensors format don't need it."
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


def _check_archive(file: BinaryIO, size: int) -> dict[str, CheckedPickle]:
    """Check a file of PyTorch 1.6 or later: a zip archive of one pickle and the storages.

    Returns:
        The pickles by the names of their records.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise ValueError("it is a TorchScript program; save its state_dict() instead")
        for entry in entries:
            # PyTorch returns uninitialized memory for a record that is marked as a directory or
            # whose two sizes differ.
            directory = entry.external_attr & _DOS_DIRECTORY
            compressed = entry.compress_type != zipfile.ZIP_STORED
            if directory or compressed or entry.compress_size != entry.file_size:
                raise ValueError(f"record {entry.filename!r} is not stored as torch.save stores it")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its records are larger than the file")
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of record {damaged!r} is wrong")
        names = [e.filename for e in entries if e.filename.endswith("/data.pkl")]
        pickles = {name: io.BytesIO(archive.read(name)) for name in names}
    return {name: check_pickle(stream, size, ["TUPLE"]) for name, stream in pickles.items()}


def _check_old_file(file: BinaryIO, size: int) -> dict[str, CheckedPickle]:
    """Check a file of PyTorch before 1.6, which is several pickles, or a single plain pickle.

    Returns:
        The pickles by the positions of their ends.
    """
    pickles: dict[str, CheckedPickle] = {}
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(_PICKLES_OF_OLD_FILE):
            if content.tell() < size:
                checked = check_pickle(content, size, ["NONE", "TUPLE"])
                pickles[str(content.tell())] = checked
    return pickles
