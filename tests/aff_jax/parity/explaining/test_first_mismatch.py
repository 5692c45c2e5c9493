"""A fusion that follows another reference than PyTorch's is explained by its field."""

import flax.linen as nn
import numpy as np
import pytest
import torch

import aff_jax
from aff_jax import parity
from tests.reference import torch_aff

MAPS = np.random.default_rng(0).standard_normal((2, 3, 6, 6, 16)).astype(np.float32)


class TorchNetwork(torch.nn.Module):
    def __init__(self, fusion):
        super().__init__()
        self.fuse = fusion(16)
        self.head = torch.nn.Conv2d(16, 4, 1)

    def forward(self, x, y):
        return self.head(self.fuse(x, y))


class Network(nn.Module):
    fuse: nn.Module

    @nn.compact
    def __call__(self, x, y, train=False):
        return nn.Conv(4, (1, 1), name="head")(self.fuse(x, y, train))


@pytest.mark.parametrize(
    ("torch_fusion", "fusion", "explanation"),
    [
        (torch_aff.AFF, aff_jax.AFF(), "`gain` is 1.0. With gain=2.0 the layer agrees"),
        (torch_aff.iAFF, aff_jax.IAFF(), "`share_global` is False. With share_global=True"),
        (
            torch_aff.iAFF,
            aff_jax.IAFF(share_global=True, gain=2.0),
            "`gain` is 2.0. With gain=1.0 the layer agrees",
        ),
    ],
)
def test_the_field_of_the_reference_is_named(torch_fusion, fusion, explanation):
    torch.manual_seed(0)
    network = TorchNetwork(torch_fusion).eval()
    result = parity.compare(network, Network(fusion), None, *MAPS, float64=True)
    assert not result.equal
    assert explanation in result.explanation
    assert "`reference` of create_model sets this field" in result.explanation


def test_exchanged_inputs_are_named():
    torch.manual_seed(0)
    network = TorchNetwork(torch_aff.AFF).eval()

    class Exchanged(Network):
        @nn.compact
        def __call__(self, x, y, train=False):
            return nn.Conv(4, (1, 1), name="head")(self.fuse(y, x, train))

    other = Exchanged(aff_jax.AFF(gain=2.0))
    result = parity.compare(network, other, None, *MAPS, float64=True)
    assert not result.equal
    assert "gets the same two inputs in both networks, but in the other order" in result.explanation


def test_another_mistake_in_a_fusion_is_not_taken_for_a_reference():
    torch.manual_seed(0)
    network = TorchNetwork(torch_aff.AFF).eval()
    other = Network(aff_jax.AFF(gain=2.0, activation=nn.silu))
    result = parity.compare(network, other, None, *MAPS, float64=True)
    assert not result.equal
    assert "reference" not in result.explanation
    assert "silu" in result.explanation.lower() or "relu" in result.explanation.lower()
