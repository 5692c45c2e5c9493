"""Recorded outputs of PyTorch submodules."""

import numpy as np
import pytest
import torch

from aff_jax.parity.recording.recorder import Inputs
from aff_jax.parity.recording.torch_recording import copy_torch, record_torch

X = np.float32(np.random.default_rng(0).standard_normal((2, 3)))


def test_torch_outputs_are_copies_in_the_dtype_of_the_copy():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True)).train()
    pixels = np.random.default_rng(0).standard_normal((2, 3, 5, 6))
    copied = copy_torch(module, "float64")
    calls = record_torch(copied, Inputs((pixels,), {}), inputs_of=("1",))
    assert [(call.module, call.number) for call in calls] == [("0", 1), ("1", 1), ("", 1)]
    conv, relu, _ = calls
    assert conv.outputs[0].shape == (2, 4, 5, 6)
    assert conv.outputs[0].dtype == np.float64
    # The ReLU works in place: what was recorded before is a copy.
    assert conv.outputs[0].min() < 0
    np.testing.assert_array_equal(relu.inputs[0], conv.outputs[0])
    np.testing.assert_array_equal(relu.outputs[0], np.maximum(conv.outputs[0], 0))
    assert module.training
    assert module[0].weight.dtype == torch.float32
    assert not any(part._forward_hooks for part in copied.modules())


def test_read_only_inputs_are_copied():
    pixels = np.ones((1, 3, 2, 2), np.float32)
    pixels.flags.writeable = False  # as NumPy views of JAX arrays are
    clip = torch.nn.Hardtanh(0, 0.5, inplace=True)
    (call,) = record_torch(clip, Inputs((pixels,), {}))
    assert call.outputs[0].max() == 0.5
    assert pixels.min() == 1


def test_outputs_in_dicts_and_bfloat16_are_arrays():
    class Named(torch.nn.Module):
        def forward(self, x, scale):
            return {"wide": x, "narrow": (scale * x).bfloat16(), "text": "none"}

    (call,) = record_torch(Named(), Inputs((X,), {"scale": 2}))
    assert [array.dtype for array in call.outputs] == [np.float32, np.float32]


# PyTorch's own modules use what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile])
def test_wrappers_are_removed_at_any_depth(wrap):
    module = torch.nn.Sequential(wrap(torch.nn.Linear(3, 2)), torch.nn.Tanh())
    for wrapped in (module, wrap(module)):
        copied = copy_torch(wrapped, "float32")
        assert list(copied.state_dict()) == ["0.weight", "0.bias"]
