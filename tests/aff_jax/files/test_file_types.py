"""Types of files by their content, and descriptions of directories."""

import io
import zipfile

import numpy as np
import pytest
from flax import serialization

import aff_jax
from aff_jax.convert.weight_files import read_weights
from aff_jax.files.file_types import describe_directory, describe_file_type, detect_file_type
from aff_jax.files.safetensors import write_safetensors


def npz():
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        content.writestr("weights.pth", b"x")
    return file.getvalue()


CONTENTS = {
    "empty": b"",
    "html": b"\n<!DOCTYPE html><html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "json": b'{"weight_map": {}}',
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "gzip": b"\x1f\x8b\x08",
    "tar": bytes(257) + b"ustar",
    "npz": npz(),
    "npy": b"\x93NUMPY\x01\x00",
    "zip": archive(),
    "msgpack": serialization.to_bytes({"params": {"kernel": np.ones(2)}}),
    "unknown": b"text",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_other_files_are_named_with_what_to_do(tmp_path, name):
    path = tmp_path / "weights"
    path.write_bytes(CONTENTS[name])
    assert detect_file_type(path) == name
    with pytest.raises(ValueError, match=r"weights: expected weights of PyTorch.* got ") as error:
        read_weights(path)
    assert str(error.value).endswith(f"{describe_file_type(name)}.")
    with pytest.raises(ValueError, match="weights: "):
        aff_jax.load(path)


def test_a_stablehlo_program_is_known_by_its_extension(tmp_path):
    path = tmp_path / "model.stablehlo"
    path.write_bytes(b"\x10\0\0\0 program")
    with pytest.raises(ValueError, match="got a program of `aff-jax export`"):
        aff_jax.load(path)


def test_a_truncated_safetensors_file_is_not_another_type(tmp_path):
    path = tmp_path / "a"
    write_safetensors(path, {"a": np.ones(9)})
    assert detect_file_type(path) == "safetensors"
    path.write_bytes(path.read_bytes()[:20])
    assert detect_file_type(path) == "unknown"


def test_directories_are_named_with_what_to_do(tmp_path):
    run = tmp_path / "run"
    step = run / "checkpoints" / "500"
    step.mkdir(parents=True)
    assert describe_directory(run / "checkpoints") == "a directory"
    (run / "config.json").touch()
    for path in (run, run / "checkpoints", step):
        command = f"python -m train.save_model --workdir={run} "
        assert command in describe_directory(path)
        for read in (read_weights, aff_jax.load):
            with pytest.raises(IsADirectoryError, match=command):
                read(path)
    (tmp_path / "model.safetensors").touch()
    assert "name one of its files: model.safetensors" in describe_directory(tmp_path)
    orbax = tmp_path / "orbax"
    orbax.mkdir()
    (orbax / "_CHECKPOINT_METADATA").touch()
    assert "checkpoint of Orbax" in describe_directory(orbax)


@pytest.mark.parametrize("start", [b"\x80\4", b"\x1f\x8b", b"\x12\x01"])
def test_the_length_of_a_header_does_not_hide_a_safetensors_file(tmp_path, start):
    """The first bytes of a .safetensors file are a number, and may be those of another type."""
    length = int.from_bytes(start, "little")
    path = tmp_path / "weights"
    path.write_bytes(length.to_bytes(8, "little") + b"{}".ljust(length))
    assert detect_file_type(path) == "safetensors"
