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


@pytest.mark.parametrize(
    "inputs",
    [(MAPS[0], MAPS[0]), (0 * MAPS[0], 0 * MAPS[0])],
    ids=["equal inputs", "inputs of zeros"],
)
def test_no_reference_is_named_where_the_fusion_agrees(inputs):
    """With equal inputs the output does not depend on the weights M."""
    torch.manual_seed(0)
    network = TorchNetwork(torch_aff.AFF).eval()
    other = Network(aff_jax.AFF(gain=2.0, activation=nn.silu))
    result = parity.compare(network, other, None, *inputs, float64=True)
    assert "logit_scale" not in result.explanation
    assert "gain" not in result.explanation


def test_a_fusion_whose_forward_is_called_directly_is_no_error():
    """PyTorch's hooks then see only the layers inside it."""
    torch.manual_seed(0)

    class Direct(TorchNetwork):
        def forward(self, x, y):
            return self.head(self.fuse.forward(x, y))

    other = Network(aff_jax.AFF(gain=2.0, activation=nn.silu))
    result = parity.compare(Direct(torch_aff.AFF).eval(), other, None, *MAPS, float64=True)
    assert not result.equal
    assert "reference" not in result.explanation


def test_a_fusion_of_the_user_has_no_reference():
    class AFF(nn.Module):  # without the fields of aff_jax.AFF
        @nn.compact
        def __call__(self, x, y, train=False):
            return aff_jax.AFF(name="inner")(x, y, train)

    torch.manual_seed(0)
    network = TorchNetwork(torch_aff.AFF).eval()
    rename = {f"fuse.{name}": f"fuse.inner.{name}" for name in ("local_att", "global_att")}
    result = parity.compare(network, Network(AFF()), None, *MAPS, float64=True, rename=rename)
    assert "PyTorch's values are 2 times JAX's" in result.explanation


def test_the_reference_of_a_fusion_alone_is_named():
    torch.manual_seed(0)
    result = parity.compare(torch_aff.iAFF(16).eval(), aff_jax.IAFF(), None, *MAPS, float64=True)
    assert "`share_global` is False. With share_global=True" in result.explanation


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
