"""Weights through every kind of file, wrappings off, and broken .safetensors files."""

import json
import os
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
from safetensors import SafetensorError

from aff_jax.convert import weight_files as files
from aff_jax.convert.weight_files import read_weights, unwrap_state_dict, write_torch
from aff_jax.files.safetensors import read_safetensors, write_safetensors
from tests.aff_jax.convert.mutations import mutations

PARAMS = Path(__file__).parent / "data" / "cifar_resnet8_aff.params"

DTYPES = [
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
]


@st.composite
def arrays(draw):
    """Arrays of any dtype, number of axes and strides, with NaN and -0.0 among their bits."""
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
    weights = {f"layer.{name}": array for name, array in weights.items()}  # and no "module."
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"weights{ending}"
        (write_torch if ending == ".pth" else write_safetensors)(path, weights)
        assert_same_bits(read_weights(path), weights)
        assert os.listdir(directory) == [path.name]


def test_metadata_comes_back(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": jnp.ones((2, 3))}, {"model": "resnet50", "ünï": '{"a": 1}'})
    weights, metadata = read_safetensors(path)
    assert_same_bits(weights, {"a": np.ones((2, 3), np.float32)})
    assert metadata == {"model": "resnet50", "ünï": '{"a": 1}'}
    write_safetensors(path, {}, overwrite=True)
    assert read_safetensors(path) == ({}, {})


def test_big_endian_arrays_are_written_right(tmp_path):
    path = tmp_path / "X.SafeTensors"  # endings may be in capitals
    write_safetensors(path, {"a": np.arange(3, dtype=">f4")})
    np.testing.assert_array_equal(read_weights(path)["a"], np.arange(3, dtype=np.float32))


def test_core_formats_need_no_torch(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a": np.ones(3)})
    code = (
        "import sys; from aff_jax.convert.weight_files import read_weights as read\n"
        f"print(len(read({str(PARAMS)!r})), len(read({str(tmp_path / 'x.safetensors')!r})))\n"
        "print('torch' in sys.modules or 'mxnet' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["115", "1", "False"]


def test_what_is_not_a_file_of_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.pth: there is no such file"):
        read_weights(tmp_path / "x.pth")
    with pytest.raises(IsADirectoryError, match="expected a file of weights, got a directory"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe.params")
    with pytest.raises(OSError, match="expected a file of weights"):
        read_weights(tmp_path / "pipe.params")
    for name in ("x.ckpt", "x.pth.tar", "x"):
        (tmp_path / name).touch()
        known = r"known are \.pth, \.pt, \.safetensors, \.params\. .*rename it to \.pth"
        with pytest.raises(ValueError, match=known):
            read_weights(tmp_path / name)


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
    ],
)
def test_wrappings_come_off(wrapped):
    assert_same_bits(unwrap_state_dict(wrapped), WEIGHTS)


def test_a_prefix_that_not_all_names_have_stays():
    weights = {"module.a": np.ones(1), "b": np.ones(1)}
    assert_same_bits(unwrap_state_dict(weights), weights)


def test_whatever_is_an_array_counts():
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
        (Module(), r"got .*Module; pass its state_dict\(\)"),
        ([np.ones(2)], "got builtins.list"),
        ({3: np.ones(2)}, "got a dict with the keys 3"),
        (
            {**WEIGHTS, "epoch": 3, "name": "x"},
            r"2 of 4 .*: 'epoch' \(int\), 'name' \(str\)\. Leave",
        ),
        ({**WEIGHTS, 3: np.ones(2)}, r"1 of 3 .*: 3 \(ndarray\)"),
        ({"model": {**WEIGHTS, "extra": None}}, r"'extra' \(NoneType\)"),
        ({"a": np.array(["text"])}, "'a': expected an array of numbers, got one of <U4"),
        ({"a": np.array([None])}, "'a': expected an array of numbers, got one of object"),
        ({"a": np.zeros(2, "i4,f4")}, "'a': expected an array of numbers"),
    ],
)
def test_what_is_no_state_dict_is_said(state, message):
    with pytest.raises(ValueError, match=r"x\.pth: .*" + message):
        unwrap_state_dict(state, "x.pth")


@pytest.fixture(params=["safetensors", "torch"])
def write(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return {"safetensors": write_safetensors, "torch": write_torch}[request.param]


def test_an_existing_file_is_kept_unless_asked_for(write, tmp_path):
    path = tmp_path / "x"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="x: exists already"):
        write(path, WEIGHTS)
    assert path.read_text() == "precious"
    write(path, WEIGHTS, overwrite=True)
    assert path.stat().st_size > 8
    assert os.listdir(tmp_path) == ["x"]


def test_files_may_be_read_by_whom_others_may(write, tmp_path):
    (tmp_path / "other").touch()
    write(tmp_path / "x", WEIGHTS)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failure_leaves_nothing_behind(write, tmp_path, monkeypatch):
    def full(data, file, *rest):
        Path(getattr(file, "name", file)).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    path = tmp_path / "x"
    path.write_text("precious")
    monkeypatch.setattr(files, "save_file", full)
    if write is write_torch:
        monkeypatch.setattr("torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, WEIGHTS, overwrite=True)
    with pytest.raises(ValueError, match="'b': expected an array of numbers"):
        write(path, {"a": np.ones(2), "b": np.array("text")}, overwrite=True)
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_text() == "precious"


def test_dtypes_that_the_format_lacks(tmp_path):
    with pytest.raises(ValueError, match=r'x: cannot be written: .*"complex128"') as raised:
        write_safetensors(tmp_path / "x", {"a": np.ones(2, np.complex128)})
    assert isinstance(raised.value.__cause__, SafetensorError)
    assert os.listdir(tmp_path) == []


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def encode(header, data=b"", length=None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(content) if length is None else length).to_bytes(8, "little") + content + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "of 0 bytes. At byte 0: expected a header|header too small"),
        (b"123", "of 3 bytes. At byte 0: expected a header of at most 0 bytes"),
        (encode({}, length=2**64 - 1), "at most 2 bytes, got 18446744073709551615"),
        (encode({}, length=3), "at most 2 bytes, got 3"),
        (encode({}, b"extra"), "not fully covered"),
        (encode({"a": entry([2], 0, 8)}, b"1234567"), "not fully covered"),
        (encode({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "offset.*`b`"),
        (encode({"a": entry([2], 4, 12)}, bytes(12)), "invalid offset"),
        (encode({"a": entry([2], 8, 0)}, bytes(8)), "invalid offset"),
        (encode({"a": entry([2**62, 4], 0, 8)}, bytes(8)), "overflow"),
        (encode({"a": entry([0, 2**61], 0, 0)}), "array is too big"),
        (encode({"a": entry([1] * 70, 0, 4)}, bytes(4)), "maximum supported dimension"),
        (encode({"a": entry([2], 0, 8, "F31")}, bytes(8)), "unknown variant `F31`"),
        (encode({"a": entry([4], 0, 2, "F4")}, bytes(2)), "float4"),
        (encode({"__metadata__": {"a": 1}}), "expected a string"),
        (encode(b"[" * 9_999), "invalid JSON"),
        (encode(b"\xff\xfe"), "UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_safetensors(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.safetensors: not a readable .*" + message):
        read_weights(path)


def test_damaged_safetensors_end_in_a_dict_or_a_value_error(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {f"layer{n}": np.ones((n, 9)) for n in range(1, 9)}, {"a": "b"})
    messages = []
    for damaged in mutations(path.read_bytes(), 2_000):
        path.write_bytes(damaged)
        try:
            assert isinstance(read_weights(path), dict)
        except ValueError as error:
            messages.append(str(error))
    assert all(message.startswith(f"{path}: ") for message in messages)
    assert len(messages) > 1_000
