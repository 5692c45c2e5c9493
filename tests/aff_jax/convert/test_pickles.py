"""Pickles of checkpoints: later protocols are read, and code is refused."""

import io
import pickle
import sys
import types

import numpy as np
import pytest

from aff_jax.convert.pickles import check_pickle
from aff_jax.convert.weight_files import read_weights

torch = pytest.importorskip("torch")

OLD = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])

STATE = {
    "conv.weight": torch.arange(54.0).reshape(2, 3, 3, 3),
    "conv.bias": torch.ones(2, dtype=torch.float16),
    "norm.num_batches_tracked": torch.tensor(7),
    "norm.running_var": torch.ones(2),
    "torch": torch.zeros(300),  # the string is also the name of a module
}


def assert_is_state(weights):
    assert list(weights) == list(STATE)
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy(), strict=True)


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(tmp_path, protocol, options):
    path = tmp_path / "x.pth"
    torch.save(STATE, path, pickle_protocol=protocol, **options)
    assert_is_state(read_weights(path))


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_objects_are_refused_with_their_entry_and_a_remedy(
    tmp_path, monkeypatch, protocol, options
):
    path = tmp_path / "x.pth"
    package = types.ModuleType("package")
    package.Config = type("Config", (), {"__module__": "package"})
    monkeypatch.setitem(sys.modules, "package", package)
    checkpoint = {"name": "x", "config": package.Config(), "state_dict": STATE}
    torch.save(checkpoint, path, pickle_protocol=protocol, **options)
    with pytest.raises(ValueError, match=r"would call package\.Config \(in 'config'\)") as error:
        read_weights(path)
    load, save = (line.strip() for line in str(error.value).splitlines()[-2:])
    names = {"torch": torch}
    exec(load, names)  # the remedy runs
    assert "weights_only=False" in load
    exec(save.replace("weights.pth", str(tmp_path / "weights.pth")), names)
    assert_is_state(read_weights(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04K\x01K\x02\x93.", "is not two strings"),
        (b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.", "is not two strings"),
        (b"\x80\x04]X\x10'\0\0" + b"a" * 10_000 + b"\x94" + b"h\0" * 40 + b"e.", "too often"),
    ],
)
def test_odd_pickles_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        check_pickle(io.BytesIO(content), len(content), ["TUPLE"])


def test_a_rewritten_pickle_has_the_same_content():
    value = {"a": [1, 2.5, None, "text", b"bytes"], "b": ("text", "text"), 3: True}
    for protocol in (3, 4, 5):
        content = pickle.dumps(value, protocol)
        checked = check_pickle(io.BytesIO(content), len(content), ["TUPLE"])
        assert checked.is_rewritten
        assert pickle.loads(checked.content) == value
