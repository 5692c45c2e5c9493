"""Weight files of every format, and state dicts with wrappings."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from aff_jax.convert.weight_files import (
    read_weights,
    type_of_weights,
    unwrap_state_dict,
    write_torch,
)
from aff_jax.files.safetensors import write_safetensors

PARAMS = Path(__file__).parent / "data" / "cifar_resnet8_aff.params"

DTYPES = [
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
]


@st.composite
def arrays(draw):
    """Draw arrays of any dtype, bits (NaN and -0.0 included), number of axes and strides."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=4))
    if dtype == np.bool_:
        array = draw(hnp.arrays(dtype, shape))
    else:
        bits = draw(hnp.arrays(f"u{dtype.itemsize}", shape))
        array = bits.view(dtype)
    axes = draw(st.permutations(range(array.ndim)))
    step = draw(st.sampled_from([1, 2, -1]))
    return array.transpose(axes)[..., ::step] if array.ndim else array


def assert_same_bits(got, expected):
    assert sorted(got) == sorted(expected)
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert got[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@hypothesis.given(st.dictionaries(st.text(min_size=1, max_size=9), arrays(), min_size=1))
@hypothesis.settings(max_examples=60, deadline=None)
def test_round_trips_are_exact(ending, weights):
    if ending == ".pth":
        pytest.importorskip("torch")
    # A prefix, because names must not begin with "module.", which is removed.
    weights = {f"layer.{name}": array for name, array in weights.items()}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"weights{ending}"
        (write_torch if ending == ".pth" else write_safetensors)(path, weights)
        assert_same_bits(read_weights(path), weights)
        assert os.listdir(directory) == [path.name]


def test_other_formats_do_not_import_pytorch(tmp_path):
    path = tmp_path / "X.SafeTensors"  # the case of the extension does not matter
    write_safetensors(path, {"a": np.ones(3)})
    code = (
        "import sys; from aff_jax.convert.weight_files import read_weights as read\n"
        f"print(len(read({str(PARAMS)!r})), len(read({str(path)!r})))\n"
        "print('torch' in sys.modules or 'mxnet' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["115", "1", "False"]


def test_rejects_other_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.pth: no such file"):
        read_weights(tmp_path / "x.pth")
    with pytest.raises(IsADirectoryError, match="expected a weight file, got a directory"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe.params")
    with pytest.raises(OSError, match="expected a weight file"):
        read_weights(tmp_path / "pipe.params")
    for name in ("x.ckpt", "x.pth.tar", "x"):
        (tmp_path / name).touch()
        known = r"such as a file of type \.pth, \.pt, \.safetensors, \.params, got an empty file"
        with pytest.raises(ValueError, match=known):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".pth.tar", ".PTH", ".safetensors", ""])
def test_the_content_of_a_pytorch_file_decides_not_its_extension(tmp_path, ending):
    pytest.importorskip("torch")
    path = tmp_path / f"x{ending}"
    write_torch(path, WEIGHTS)
    assert_same_bits(read_weights(path), WEIGHTS)
    assert type_of_weights(path) == "torch"


@pytest.mark.parametrize("name", ["A.PARAMS", "a.pth", "a"])
def test_the_content_of_other_files_decides_not_their_extension(tmp_path, name):
    path = tmp_path / name
    shutil.copy(PARAMS, path)
    assert type_of_weights(path) == "mxnet"
    assert len(read_weights(path)) == 115
    write_safetensors(path, WEIGHTS, overwrite=True)
    assert_same_bits(read_weights(path), WEIGHTS)


WEIGHTS = {"conv.weight": np.ones((2, 3)), "conv.bias": np.zeros(2)}


def prefixed(prefix):
    return {prefix + name: array for name, array in WEIGHTS.items()}


@pytest.mark.parametrize(
    "wrapped",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"state": {0: np.ones(2)}}},
        {"model_state_dict": WEIGHTS, "loss": 0.5},
        {"model": WEIGHTS, "args": None},
        {"params": WEIGHTS},
        {"net": WEIGHTS, "acc": 91.0},
        {"ema": {"model": WEIGHTS}},
        {"state_dict": {"model": {"net": WEIGHTS}}},
        {"model": {"name": "resnet50"}, "params": WEIGHTS},
        {"state_dict": {}, "model": WEIGHTS},
        prefixed("module."),
        prefixed("module.module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod.module."),
        {"state_dict": prefixed("module.")},
        {**prefixed("module."), "n_averaged": np.array(3)},
        {**prefixed("module.module."), "module.n_averaged": np.array(3)},
    ],
)
def test_wrappings_are_removed(wrapped):
    assert_same_bits(unwrap_state_dict(wrapped), WEIGHTS)


def test_keeps_prefixes_that_only_some_names_have():
    weights = {"module.a": np.ones(1), "b": np.ones(1)}
    assert_same_bits(unwrap_state_dict(weights), weights)


def test_accepts_all_kinds_of_arrays():
    class Wrapper:
        def __array__(self, dtype=None, copy=None):
            return np.float32([1, 2])

    given = {"a": jnp.arange(3), "b": np.float16(3), "c": Wrapper(), "d": jnp.ones(2, jnp.bfloat16)}
    expected = {n: np.asarray(value) for n, value in given.items()}
    assert_same_bits(unwrap_state_dict(given), expected)


class Module:
    def state_dict(self):
        raise AssertionError("not called")


CYCLE: dict[str, object] = {}
CYCLE["model"] = CYCLE["net"] = CYCLE


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"got a dict with the keys \(none\)"),
        ({"epoch": 3, "weights": WEIGHTS}, "keys 'epoch', 'weights'"),
        (CYCLE, "keys 'model', 'net'"),
        (Module(), r"got .*Module\. Pass its state_dict\(\)"),
        ([np.ones(2)], "got builtins.list"),
        ({3: np.ones(2)}, "got a dict with the keys 3"),
        (
            {**WEIGHTS, "epoch": 3, "name": "x"},
            r"2 of 4 .*: 'epoch' \(int\), 'name' \(str\)\. Remove",
        ),
        ({**WEIGHTS, 3: np.ones(2)}, r"1 of 3 .*: 3 \(ndarray\)"),
        ({"model": {**WEIGHTS, "extra": None}}, r"'extra' \(NoneType\)"),
        ({"a": np.array(["text"])}, "'a': expected an array of numbers, got one of <U4"),
        ({"a": np.array([None])}, "'a': expected an array of numbers, got one of object"),
        ({"a": np.zeros(2, "i4,f4")}, "'a': expected an array of numbers"),
    ],
)
def test_rejects_other_objects(state, message):
    with pytest.raises(ValueError, match=r"x\.pth: .*" + message):
        unwrap_state_dict(state, "x.pth")


def test_the_key_of_nested_weights_is_named():
    with pytest.raises(ValueError, match="Weights are under 'model_ema', 'shadow'"):
        unwrap_state_dict({"model_ema": {"w": np.ones(2)}, "shadow": {"w": np.ones(2)}, "epoch": 3})
