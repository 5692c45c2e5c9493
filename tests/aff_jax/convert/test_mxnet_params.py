"""MXNet `.params` files: recorded ones, every variant of the format, and damaged ones."""

import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from aff_jax.convert.mxnet_params import read_mxnet_params
from tests.aff_jax.files.mutations import mutations

DATA = Path(__file__).parent / "data"
AFF, AFF_HALF, IAFF = (
    DATA / f"cifar_resnet8_{name}.params" for name in ("aff", "aff.fp16", "iaff")
)

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
LEGACY = None

FLAGS = {
    0: np.float32,
    1: np.float64,
    2: np.float16,
    3: np.uint8,
    4: np.int32,
    5: np.int8,
    6: np.int64,
    7: np.bool_,
    8: np.int16,
    9: np.uint16,
    10: np.uint32,
    11: np.uint64,
    12: ml_dtypes.bfloat16,
}


def expected_weight(name, shape):
    """Draw an array by the rule that the recorded files were made with."""
    seed = zlib.crc32(name.encode()) & 0x7FFFFFFF
    normal = np.random.RandomState(seed).standard_normal(shape)
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_var":
        normal = 1 + np.abs(normal)
    elif kind in ("running_mean", "beta", "bias"):
        normal = 0.1 * normal
    elif kind == "gamma" or len(shape) == 1:
        normal = 0.4 + 0.05 * normal
    else:
        normal = normal * np.sqrt(1 / np.prod(shape[1:]))
    return normal.astype(np.float32)


def encode_array(values, flag=0, version=V2, storage=0, shape=None, device=(1, 0)):
    shape = values.shape if shape is None else shape
    head = b""
    if version is not LEGACY:
        head = struct.pack("<I", version)
        if version != V1:
            head += struct.pack("<i", storage)
    head += struct.pack("<I", len(shape))
    head += struct.pack(f"<{len(shape)}{'I' if version is LEGACY else 'q'}", *shape)
    return head + struct.pack("<iii", *device, flag) + values.tobytes()


def encode_list(arrays, names, magic=0x112):
    content = struct.pack("<QQQ", magic, 0, len(arrays)) + b"".join(arrays)
    content += struct.pack("<Q", len(names))
    for name in names:
        name = name if isinstance(name, bytes) else name.encode()
        content += struct.pack("<Q", len(name)) + name
    return content


@pytest.fixture
def read(tmp_path):
    """Return a function that reads bytes as a `.params` file."""

    def read_bytes(content):
        path = tmp_path / "x.params"
        path.write_bytes(content)
        return read_mxnet_params(path)

    return read_bytes


ONE = encode_array(np.float32([1, 2, 3]))
PAIR = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("path", "arrays", "values", "dtype"),
    [
        (AFF, 115, 85_118, np.float32),
        (AFF_HALF, 115, 85_118, np.float16),
        (IAFF, 187, 91_894, np.float32),
    ],
    ids=["aff", "aff-float16", "iaff"],
)
def test_recorded_files_have_the_expected_arrays(path, arrays, values, dtype):
    weights = read_mxnet_params(path)
    assert len(weights) == arrays
    assert sum(array.size for array in weights.values()) == values
    for name, array in weights.items():
        normed = name.endswith(("gamma", "beta", "running_mean", "running_var"))
        # MXNet's batch norm stays in float32. In the float16 network, MXNet set the unused gamma
        # to 1.
        expected = expected_weight(name, array.shape).astype(np.float32 if normed else dtype)
        if path == AFF_HALF and name == "features.0.gamma":
            expected = np.ones(3, np.float32)
        assert array.dtype == expected.dtype, name
        assert array.tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("version", [LEGACY, V1, V2, V3])
@pytest.mark.parametrize("flag", FLAGS)
def test_every_type_in_every_version(read, flag, version):
    values = np.arange(6).reshape(1, 2, 3).astype(FLAGS[flag])
    weights = read(encode_list([encode_array(values, flag, version, device=(2, 7))], ["ünïcode"]))
    assert list(weights) == ["ünïcode"]
    array = weights["ünïcode"]
    assert (array.dtype, array.shape) == (values.dtype, values.shape)
    assert array.tobytes() == values.tobytes()
    array += array.dtype.type(1)  # the array is writable


def test_scalars_exist_in_version_3_only(read):
    scalar = np.float32(3).reshape(())
    assert read(encode_list([encode_array(scalar, version=V3)], ["a"]))["a"].shape == ()
    for version in (LEGACY, V1, V2):
        with pytest.raises(ValueError, match=r"array 0 of 1 has the shape \(\), which has no"):
            read(encode_list([encode_array(scalar, version=version)], ["a"]))


def test_keeps_the_order_and_reads_empty_lists(read):
    assert list(read(encode_list([ONE] * 3, ["b", "c", "a"]))) == ["b", "c", "a"]
    assert read(encode_list([], [])) == {}


def test_removes_prefixes_of_module_checkpoints(read):
    names = ["arg:conv.weight", "aux:norm.running_mean", "fc.arg:x"]
    expected = ["conv.weight", "norm.running_mean", "fc.arg:x"]
    assert list(read(encode_list([ONE] * 3, names))) == expected


def of_shape(*shape, version=V2, values=b""):
    return encode_array(np.frombuffer(values, np.uint8), version=version, shape=shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the magic number .* would take 8 bytes, but the file has 0 left"),
        (b"PK\x03\x04" + bytes(60), "zip archive, as MXNet 2 writes it: try numpy.load"),
        (encode_list([ONE], ["a"], magic=0x113), "expected the magic number 0x112, got 0x113"),
        (encode_list([ONE], ["a"]) + b"!", "1 bytes follow the last name"),
        (encode_list([ONE, ONE], ["a", "a"]), "name 1, 'a', is a duplicate"),
        (encode_list([ONE, ONE], ["arg:a", "aux:a"]), "name 1, 'a', is a duplicate"),
        (encode_list([ONE], []), "expected 1 names.*got 0; save a dict, not a list"),
        (encode_list([ONE], ["a", "b"]), "expected 1 names, one for each array; got 2"),
        (encode_list([ONE], [b"\xff"]), "name 0 is not UTF-8"),
        (encode_list([encode_array(PAIR, storage=1)], ["a"]), "stored as row-sparse"),
        (
            encode_list([encode_array(PAIR, storage=2)], ["a"]),
            "compressed sparse row; expected",
        ),
        (encode_list([encode_array(PAIR, storage=9)], ["a"]), "stored as unknown kind 9"),
        (encode_list([encode_array(PAIR, flag=13)], ["a"]), "unknown type 13; expected 0 to 12"),
        (encode_list([encode_array(PAIR, flag=-1)], ["a"]), "unknown type -1"),
        (encode_list([of_shape(0, 3)], ["a"]), r"shape \(0, 3\), which has no values"),
        (encode_list([of_shape(-1, version=V3)], ["a"]), r"shape \(-1,\), which has no values"),
        (encode_list([of_shape(*[1] * 33)], ["a"]), "expected at most 32 axes; got 0x21"),
        (encode_list([of_shape(*[1] * 33, version=LEGACY)], ["a"]), "or a version 0xf993fac8 to"),
        # Products that would be small, zero or negative if they overflowed 64 bits.
        (encode_list([of_shape(2**62, 4, 1)], ["a"]), "would take 73786976294838206464 bytes"),
        (encode_list([of_shape(2**32, 2**32)], ["a"]), "but the file has 17 left"),
        (encode_list([of_shape(*[2**63 - 1] * 32)], ["a"]), "but the file has 17 left"),
        (struct.pack("<QQQ", 0x112, 0, 2**64 - 1), "18446744073709551615 arrays need more than"),
        (encode_list([], [])[:-8] + struct.pack("<Q", 2**61), "names need more than the 0 bytes"),
        (encode_list([ONE], ["a"])[:-9] + struct.pack("<Q", 2**63) + b"a", "name 0 would take 9"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_have_the_offset_and_the_reason(read, content, message):
    with pytest.raises(ValueError, match=r"x\.params: not a readable .*At byte \d+: .*" + message):
        read(content)


def test_rejects_every_truncation(read):
    content = encode_list([ONE, encode_array(np.float64([[1.0]]), 1, LEGACY)], ["weight", "b"])
    assert len(read(content)) == 2
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"At byte \d+: "):
            read(content[:length])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.params"):
        read_mxnet_params(tmp_path / "nowhere.params")


@pytest.mark.parametrize("copies", [500, pytest.param(2_500, marks=pytest.mark.slow)])
def test_damaged_files_give_a_dict_or_a_value_error(tmp_path, copies):
    """Damaged copies give no other error, end quickly and need little memory."""
    original = AFF.read_bytes()
    path = tmp_path / "x.params"
    dicts, messages = 0, []
    for index, damaged in enumerate(mutations(original, copies)):
        path.write_bytes(damaged)
        traced = index % 5 == 0  # tracing takes five times as long
        if traced:
            tracemalloc.start()
        start = time.process_time()
        try:
            assert isinstance(read_mxnet_params(path), dict)
            dicts += 1
        except ValueError as error:
            messages.append(str(error))
        assert time.process_time() - start < 5
        if traced:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < len(damaged) + 200_000  # plus names and array headers
    assert all(message.startswith(f"{path}: ") for message in messages)
    assert all("At byte " in message for message in messages)
    assert dicts > copies / 10
    assert len(messages) > copies * 0.4
