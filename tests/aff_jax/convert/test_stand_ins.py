"""Harmless objects of a checkpoint are read beside its weights."""

import argparse
import collections
import datetime
import pathlib
import types

import numpy as np
import pytest

from aff_jax.convert.stand_ins import list_stand_ins
from aff_jax.convert.torch_files import read_torch_file
from aff_jax.convert.weight_files import read_weights

torch = pytest.importorskip("torch")

OLD = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])

STATE = {"weight": torch.arange(54.0).reshape(2, 3, 3, 3)}

OBJECTS = {
    "lr": np.float64(0.1),
    "best": np.float32(3),
    "big_endian": np.arange(3, dtype=">f4"),
    "mean": np.arange(6.0).reshape(2, 3).T,
    "empty": np.zeros((0, 3)),
    "args": argparse.Namespace(epochs=3, path=pathlib.Path("/data/images")),
    "windows": pathlib.PureWindowsPath("C:\\data"),
    "simple": types.SimpleNamespace(a=1),
    "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
    "queue": collections.deque([1, 2]),
    "time": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    "version": torch.__version__,
    "bytes": b"\x00\xff",
    "set": {1, 2},
}


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_harmless_objects_are_read(tmp_path, protocol, options):
    path = tmp_path / "x.pth"
    torch.save({**OBJECTS, "state_dict": STATE}, path, pickle_protocol=protocol, **options)
    weights = read_weights(path)
    np.testing.assert_array_equal(weights["weight"], STATE["weight"].numpy(), strict=True)
    objects = read_torch_file(path)
    for name in ("lr", "best", "big_endian", "mean", "empty"):
        np.testing.assert_array_equal(np.asarray(objects[name]), OBJECTS[name])
    assert objects["args"].path == pathlib.PurePosixPath("/data/images")
    assert objects["history"] == {"loss": [1.0, 0.5]}
    assert (objects["time"], objects["bytes"]) == (OBJECTS["time"], OBJECTS["bytes"])


@pytest.mark.parametrize("dtype", ["O", "V8", "f8,i4"])
def test_arrays_of_objects_are_refused(tmp_path, dtype):
    path = tmp_path / "x.pth"
    torch.save({"a": np.zeros(2, dtype), "b": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"expected a dtype of numbers"):
        read_weights(path)


def test_no_stand_in_is_a_function_of_python_or_numpy():
    """A file chooses the arguments, so only classes that do nothing with them are called."""
    harmless = (argparse, datetime, pathlib, types)
    for stand_in, name in list_stand_ins():
        module = stand_in.__module__
        assert module == list_stand_ins.__module__ or any(
            getattr(other, stand_in.__name__, None) is stand_in for other in harmless
        ), name
