"""Recorded outputs of submodules, in linen and in PyTorch."""

import flax.linen as nn
import jax
import numpy as np
import torch

from aff_jax.parity.activations import run_linen, run_torch

X = np.float32(np.random.default_rng(0).standard_normal((2, 3)))


class Twice(nn.Module):
    """A dense layer that is called twice. The module returns two arrays."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(3, name="dense")
        first = layer(x)
        return layer(first), first


def test_linen_outputs_are_listed_in_order_with_the_number_of_the_call():
    variables = Twice().init(jax.random.key(0), X)
    calls = run_linen(Twice(), variables, (X,))
    assert [(call.path, call.number) for call in calls] == [
        (("dense",), 1),
        (("dense",), 2),
        (("[0]",), 1),
        (("[1]",), 1),
    ]
    kernel = variables["params"]["dense"]["kernel"]
    # The bias is initialized with zeros. Single precision.
    np.testing.assert_allclose(calls[0].output, X @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(calls[3].output, calls[0].output)


def test_torch_outputs_are_channels_last_and_named_by_new_prefixes():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True)).train()
    images = np.random.default_rng(0).standard_normal((2, 5, 6, 3))
    outputs, has_weights = run_torch(module, (images,), "float64", {"0": "stem"})
    assert list(outputs) == [("stem", 1), ("1", 1), ("", 1)]
    assert has_weights == {"": False, "stem": True, "1": False}
    assert outputs["stem", 1].shape == (2, 5, 6, 4)
    assert outputs["stem", 1].dtype == np.float64
    # The ReLU works in place: the recorded output of the convolution is a copy.
    assert outputs["stem", 1].min() < 0
    np.testing.assert_array_equal(outputs["1", 1], np.maximum(outputs["stem", 1], 0))
    assert module.training
    assert module[0].weight.dtype == torch.float32


def test_read_only_inputs_are_copied():
    images = np.ones((1, 2, 2, 3), np.float32)
    images.flags.writeable = False  # as NumPy views of JAX arrays are
    clip = torch.nn.Hardtanh(0, 0.5, inplace=True)
    outputs, _ = run_torch(clip, (images,), "float32", {})
    assert outputs["", 1].max() == 0.5
    assert images.min() == 1
