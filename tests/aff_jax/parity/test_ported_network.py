"""A network ported by hand: a shuffle unit and a gate over channels, with mistakes of a port."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest
import torch
from torch.nn import functional as F

from aff_jax import parity
from tests.aff_jax.convert.states import images, randomized


class TorchGate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)))


class TorchPorted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.pool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
        self.branch = torch.nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.gate = TorchGate()
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x):
        one, two = self.pool(self.stem(x)).chunk(2, 1)
        x = torch.cat([one, self.branch(two)], 1).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
        return self.head(F.leaky_relu(self.gate(x), 0.2).mean((2, 3)))


class Gate(nn.Module):
    activation: Any

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(8, (1, 1), name="fc")(x.mean((1, 2), keepdims=True))
        return x * self.activation(y)


class Ported(nn.Module):
    """The same network; the fields are mistakes."""

    padding: Any = ((0, 1), (0, 1))
    swaps_halves: bool = False
    swaps_parts: bool = False
    activation: Any = nn.sigmoid
    slope: float = 0.2

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), 2, padding=1, name="stem")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), self.padding)
        one, two = jnp.split(x, 2, -1)[:: -1 if self.swaps_halves else 1]
        two = nn.Conv(4, (3, 3), padding=1, feature_group_count=4, name="branch")(two)
        x = jnp.concatenate([two, one] if self.swaps_parts else [one, two], -1)
        x = x.reshape(*x.shape[:3], 2, 4).swapaxes(3, 4).reshape(x.shape)
        x = Gate(self.activation, name="gate")(x)
        return nn.Dense(5, name="head")(nn.leaky_relu(x, self.slope).mean((1, 2)))


POOL = "maximum pooling with window 3, stride 2"
MISTAKES = {
    "floor instead of ceil": (
        {"padding": "VALID"},
        "branch",
        [f"JAX applies {POOL} to the second half", f"PyTorch {POOL}, padding (0, 1)"],
    ),
    "the other half": (
        {"swaps_halves": True},
        "branch",
        ["to the first half of the channels of the output of `stem`", "to the second half"],
    ),
    "concatenation": (
        {"swaps_parts": True},
        "gate/fc",
        ["it has JAX's positions 1, 0, 3, 2, 5, 4, 7, 6"],
    ),
    "activation of the gate": (
        {"activation": nn.softmax},
        "gate",
        ["PyTorch computes sigmoid of the output of `gate.fc`"],
    ),
    "slope": (
        {"slope": 0.01},
        "head",
        ["leaky relu with slope 0.01 and the mean", "leaky relu with slope 0.2 and the mean"],
    ),
}


def compare(**fields):
    torch_module = randomized(TorchPorted())
    return parity.compare(torch_module, Ported(**fields), None, images(2, 24, 24, 3), float64=True)


@pytest.mark.slow
def test_the_right_network_is_equal():
    assert compare().equal


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    fields, path, words = MISTAKES[mistake]
    result = compare(**fields)
    assert result.first_mismatch.path == path
    for word in words:
        assert word in result.explanation
