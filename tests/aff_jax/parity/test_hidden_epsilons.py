"""Another epsilon that float32 does not show is named although the networks are equal."""

import flax.linen as nn
import pytest
import torch
from flax import nnx

from aff_jax import parity
from tests.aff_jax.convert.states import images


class TorchNormed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.RMSNorm(6, eps=1e-6)

    def forward(self, x):
        return self.norm(x)


class Normed(nn.Module):
    epsilon: float

    @nn.compact
    def __call__(self, x):
        return nn.RMSNorm(self.epsilon, name="norm")(x)


class NNXNormed(nnx.Module):
    def __init__(self, epsilon):
        self.norm = nnx.RMSNorm(6, epsilon=epsilon, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(x)


@pytest.mark.parametrize("kind", [Normed, NNXNormed])
def test_an_epsilon_that_float32_does_not_show_is_named(kind):
    torch_module, x = TorchNormed(), 10 * images(2, 6)
    result = parity.compare(torch_module, kind(1e-5), None, x)
    assert result.equal
    assert result.hidden_epsilons == ["`norm` has epsilon 1e-05 where PyTorch has 1e-06"]
    assert "Float32 cannot show that `norm` has" in result.verdict
    assert not parity.compare(torch_module, kind(1e-6), None, x).hidden_epsilons


def test_float64_shows_it():
    result = parity.compare(TorchNormed(), Normed(1e-5), None, 10 * images(2, 6), float64=True)
    assert not result.equal
    assert not result.hidden_epsilons
    assert "`epsilon` is 1e-05, PyTorch's is 1e-06" in result.explanation
