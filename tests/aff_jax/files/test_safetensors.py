"""`.safetensors` files: metadata, dtypes, and damaged files."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import SafetensorError

from aff_jax.files.safetensors import read_safetensors, write_safetensors
from tests.aff_jax.files.mutations import mutations


def test_metadata_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": jnp.ones((2, 3))}, {"model": "resnet50", "ünï": '{"a": 1}'})
    weights, metadata = read_safetensors(path)
    assert weights.keys() == {"a"}
    np.testing.assert_array_equal(weights["a"], np.ones((2, 3), np.float32), strict=True)
    assert metadata == {"model": "resnet50", "ünï": '{"a": 1}'}
    write_safetensors(path, {}, overwrite=True)
    assert read_safetensors(path) == ({}, {})


def test_writes_big_endian_arrays(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": np.arange(3, dtype=">f4")})
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], np.arange(3, dtype=np.float32))


def test_rejects_unsupported_dtypes(tmp_path):
    with pytest.raises(ValueError, match=r'x: cannot be written: .*"complex128"') as raised:
        write_safetensors(tmp_path / "x", {"a": np.ones(2, np.complex128)})
    assert isinstance(raised.value.__cause__, SafetensorError)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4"])
def test_names_a_dtype_that_cannot_be_read(dtype, tmp_path):
    path = tmp_path / "a.safetensors"
    size = 2 if dtype == "F4" else 4
    header = json.dumps({"w": entry([4], 0, size, dtype)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    with pytest.raises(ValueError, match=rf"got {dtype} in 1 arrays, among them 'w'.*bfloat16"):
        read_safetensors(path)


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
        (encode({"__metadata__": {"a": 1}}), "expected a string"),
        (encode(b"[" * 9_999), "invalid JSON"),
        (encode(b"\xff\xfe"), "UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejects_broken_files(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.safetensors: not a readable .*" + message):
        read_safetensors(path)


def test_damaged_files_give_a_dict_or_a_value_error(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {f"layer{n}": np.ones((n, 9)) for n in range(1, 9)}, {"a": "b"})
    messages = []
    for damaged in mutations(path.read_bytes(), 2_000):
        path.write_bytes(damaged)
        try:
            assert isinstance(read_safetensors(path)[0], dict)
        except ValueError as error:
            messages.append(str(error))
    assert all(message.startswith(f"{path}: ") for message in messages)
    assert len(messages) > 1_000
