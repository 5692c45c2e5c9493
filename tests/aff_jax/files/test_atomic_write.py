"""Atomic writing, tested with both functions that write arrays."""

import os
from pathlib import Path

import numpy as np
import pytest

from aff_jax.convert.weight_files import write_torch
from aff_jax.files.atomic_write import check_target
from aff_jax.files.safetensors import write_safetensors

WEIGHTS = {"conv.weight": np.ones((2, 3)), "conv.bias": np.zeros(2)}


@pytest.fixture(params=["safetensors", "torch"])
def write(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return {"safetensors": write_safetensors, "torch": write_torch}[request.param]


def test_an_existing_file_is_only_replaced_on_request(write, tmp_path):
    path = tmp_path / "x"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="x already exists"):
        write(path, WEIGHTS)
    assert path.read_text() == "precious"
    write(path, WEIGHTS, overwrite=True)
    assert path.stat().st_size > 8
    assert os.listdir(tmp_path) == ["x"]


def test_files_have_the_default_permissions(write, tmp_path):
    (tmp_path / "other").touch()
    write(tmp_path / "x", WEIGHTS)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failure_leaves_the_old_file(write, tmp_path, monkeypatch):
    def full(data, file, *rest):
        Path(file if isinstance(file, os.PathLike) else file.name).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    path = tmp_path / "x"
    path.write_text("precious")
    monkeypatch.setattr("aff_jax.files.safetensors.save_file", full)
    if write is write_torch:
        monkeypatch.setattr("torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, WEIGHTS, overwrite=True)
    with pytest.raises(ValueError, match="'b': expected an array of numbers"):
        write(path, {"a": np.ones(2), "b": np.array("text")}, overwrite=True)
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_text() == "precious"


def test_a_missing_directory_is_named(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory .*missing\. Create it first"):
        write(tmp_path / "missing" / "x", WEIGHTS)


def test_a_target_is_new_in_a_directory_that_exists(tmp_path):
    target = tmp_path / "new.safetensors"
    check_target(target, overwrite=False)
    target.touch()
    check_target(target, overwrite=True)
    with pytest.raises(FileExistsError, match=r"already exists\..*with --overwrite"):
        check_target(target, overwrite=False)
    with pytest.raises(FileNotFoundError, match=r"no directory .*no\. Create it first"):
        check_target(tmp_path / "no" / "new.safetensors", overwrite=False)
