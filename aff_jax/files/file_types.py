"""Find out from its content what a file is, for readers and error messages."""

import os
import zipfile
from os import PathLike
from pathlib import Path

__all__ = ["describe_directory", "describe_file_type", "detect_file_type"]

_DESCRIPTIONS = {
    "safetensors": "a .safetensors file",
    "torch": "a PyTorch file",
    "pickle": "a pickle, as PyTorch writes it",
    "mxnet": "an MXNet .params file",
    "npz": "a NumPy .npz archive; read it with `dict(numpy.load(path))`",
    "npy": "a single NumPy array; read it with `numpy.load`",
    "zip": "a zip archive; unpack it first",
    "gzip": "a gzip archive; unpack it first",
    "tar": "a tar archive; unpack it first",
    "hdf5": "an HDF5 file, as Keras writes it",
    "msgpack": "a msgpack file, as flax.serialization writes it; read it with `from_bytes`",
    "json": "a JSON file, which has no arrays",
    "lfs": "a pointer of Git LFS instead of the file; run `git lfs pull`, or download the file",
    "html": "a web page instead of the file; download the file itself, as with its raw link",
    "stablehlo": "a program of `aff-jax export`, whose weights cannot be read again",
    "onnx": "an ONNX program",
    "empty": "an empty file; download or save it again",
    "unknown": "a file of an unknown type, probably damaged",
}
"""Descriptions of the types of files, by the names that `detect_file_type` returns."""

_MAGIC: dict[str, tuple[bytes, ...]] = {
    "mxnet": (b"\x12\x01\0\0\0\0\0\0",),
    "pickle": (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"),
    "npy": (b"\x93NUMPY",),
    "gzip": (b"\x1f\x8b",),
    "hdf5": (b"\x89HDF",),
    "lfs": (b"version https://git-lfs",),
}
"""First bytes of types of files."""

_SUFFIXES = {".stablehlo": "stablehlo", ".onnx": "onnx"}
"""Types that are not recognized by their first bytes."""

_START = 512
"""Number of bytes to read."""


def detect_file_type(path: str | PathLike[str]) -> str:
    """Find out from its content what a file is.

    Args:
        path: Path of the file.

    Returns:
        One of the keys of `_DESCRIPTIONS`.

    Raises:
        OSError: If the file is missing or cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_START)
    if not start:
        return "empty"
    # A .safetensors file is the length of its header, which is JSON, and the header. This comes
    # first: the length may have the first bytes of any other type.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    for name, magic in _MAGIC.items():
        if start.startswith(magic):
            return name
    if start.startswith(b"PK\3\4"):
        return _type_of_archive(path)
    if start[257:262] == b"ustar":
        return "tar"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "html"
    if text.startswith((b"{", b"[")):
        return "json"
    # A map whose first key is a string.
    is_map = 0x81 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF)
    keys = start[{0xDE: 3, 0xDF: 5}.get(start[0], 1) :][:1]
    if is_map and keys and (0xA0 <= keys[0] <= 0xBF or keys[0] in (0xD9, 0xDA)):
        return "msgpack"
    return _SUFFIXES.get(Path(path).suffix.lower(), "unknown")


def describe_file_type(name: str) -> str:
    """Return the description of a type, to continue "expected ..., got".

    Args:
        name: Name of the type, a key of `_DESCRIPTIONS`.

    Returns:
        A noun phrase with its article.
    """
    return _DESCRIPTIONS[name]


def describe_directory(path: str | PathLike[str]) -> str:
    """Describe a directory that was given as a weight file, and say what to do.

    Args:
        path: Path of the directory.

    Returns:
        A sentence that continues "expected a weight file, got".
    """
    path = Path(path)
    save = "write its weights to a file with `python -m train.save_model --workdir={} --output=F`"
    for run in (path, path.parent, path.parent.parent):
        if (run / "config.json").is_file() and (run / "checkpoints").is_dir():
            return f"a directory of a training run; {save.format(run)}"
    if (path / "_CHECKPOINT_METADATA").exists():
        return "a directory, a checkpoint of Orbax; restore it with Orbax"
    endings = (".safetensors", ".pth", ".pt", ".bin", ".params")
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in endings)
    if files:
        return f"a directory; name one of its files: {', '.join(files[:5])}"
    return "a directory"


def _type_of_archive(path: str | PathLike[str]) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises many types for damaged archives
        return "unknown"
    if any(name.endswith(("/data.pkl", "/constants.pkl")) for name in names):
        return "torch"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"
