"""A layer runs alone with other fields and weights, in linen and in NNX."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch
from flax import nnx

from aff_jax.parity.explaining.single_layer import PaddingMode, SingleLayer
from aff_jax.parity.recording.nnx_recording import state_of_nnx
from tests.aff_jax.convert.states import channels_first, images

X = images(1, 5, 6, 3)


def make(kind, **fields):
    """Return a convolution as a `SingleLayer`."""
    if kind == "nnx":
        module = nnx.Conv(3, 2, (3, 3), rngs=nnx.Rngs(0), **fields)
        return SingleLayer(module, state_of_nnx(module))
    module = nn.Conv(2, (3, 3), **fields)
    return SingleLayer(module, module.init(jax.random.key(0), X))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_fields_and_weights_are_replaced_in_a_copy(kind):
    layer = make(kind)
    (before,) = layer.run([X])
    (strided,) = layer.with_fields({"strides": (2, 2)}).run([X])
    np.testing.assert_allclose(strided.shape, (1, 3, 3, 2))
    (biased,) = layer.with_weights({"bias": np.float32([1, -1])}).run([X])
    np.testing.assert_allclose(biased, before + np.float32([1, -1]), rtol=1e-5)
    np.testing.assert_array_equal(layer.run([X])[0], before)
    assert layer.run([X[..., :2]]) is None


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_are_those_of_pytorch(mode):
    layer = make("linen", use_bias=False)
    kernel = np.asarray(layer.variables["params"]["kernel"])
    conv = torch.nn.Conv2d(3, 2, 3, padding=(1, 2), padding_mode=mode, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        expected = conv(channels_first(X)).movedim(1, -1).numpy()
    padded = layer.with_fields({"padding": PaddingMode(mode, ((1, 1), (2, 2)))})
    np.testing.assert_allclose(padded.run([X])[0], expected, rtol=1e-4, atol=1e-5)
