"""Names of JAX calls in PyTorch: stacked layers, and modules that return several arrays."""

import flax.linen as nn
import numpy as np
import pytest
import torch

from aff_jax import parity
from tests.aff_jax.convert.states import images, randomized


class Layer(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.tanh(nn.Dense(4, name="linear")(carry)), None


class Stack(nn.Module):
    """Three layers in one `nn.scan`."""

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return scan(name="layers")(x, None)[0]


class TorchLayer(torch.nn.Module):
    def __init__(self, wrong):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.wrong = wrong

    def forward(self, x):
        x = self.linear(x)
        return torch.relu(x) if self.wrong else torch.tanh(x)


class TorchStack(torch.nn.Module):
    def __init__(self, wrong=None):
        super().__init__()
        self.layers = torch.nn.ModuleList(TorchLayer(number == wrong) for number in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_each_call_of_a_scanned_layer_is_a_layer_of_its_own():
    result = parity.compare(randomized(TorchStack()), Stack(), None, images(2, 4), float64=True)
    assert result.equal
    assert [row.name for row in result.rows][:4] == [
        "layers.0.linear",
        "layers.0",
        "layers.1.linear",
        "layers.1",
    ]
    wrong = parity.compare(randomized(TorchStack(1)), Stack(), None, images(2, 4), float64=True)
    assert wrong.first_mismatch.name == "layers.1"
    assert "applies tanh" in wrong.explanation
    assert "PyTorch relu" in wrong.explanation


class Attention(nn.Module):
    heads: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(self.heads, name="attention")(x)


class TorchAttention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


@pytest.mark.parametrize("float64", [False, True])
def test_attention_returns_one_array_here_and_two_in_pytorch(float64):
    x = np.float32(images(2, 5, 8))
    network = randomized(TorchAttention())
    result = parity.compare(network, Attention(), None, x, float64=float64)
    assert result.equal
    assert "attention[0]" in [row.name for row in result.rows]
    wrong = parity.compare(network, Attention(heads=4), None, x, float64=True)
    assert wrong.first_mismatch.path == "attention"
