"""Networks that compute the same in both frameworks are equal, and small mistakes are still found.

The residual networks amplify rounding strongly with random statistics.
"""

import flax.linen as nn
import pytest
import torch

import aff_jax
from aff_jax import parity
from tests.aff_jax.convert.states import images, randomized
from tests.aff_jax.parity.networks import NETWORKS
from tests.aff_jax.parity.transformers import ViT
from tests.reference import torch_aff

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_right_port_is_equal(name, float64):
    port = NETWORKS[name]()
    result = parity.compare(
        randomized(port.torch_module),
        port.module,
        None,
        *port.inputs,
        float64=float64,
        **port.options,
    )
    assert [row for row in result.rows if row.differs] == []
    assert result.equal
    assert result.explanation == ""
    assert not result.is_too_noisy


@pytest.mark.slow
@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("state", ["initial", "random"])
@pytest.mark.parametrize("fusion", ["DAF", "AFF", "iAFF"])
@pytest.mark.parametrize(
    "name",
    ["resnet18", *(pytest.param(n, marks=pytest.mark.weekly) for n in ("resnet50", "resnet101"))],
)
def test_a_resnet_is_equal(name, fusion, state, float64):
    # Rounding is amplified by depth. The deep networks have a quarter of the channels, which takes
    # a tenth of the memory.
    channels = 64 if name == "resnet18" else 16
    torch_module = torch_aff.resnet(name, fuse_type=fusion, num_classes=10, features=channels)
    if state == "random":
        randomized(torch_module)
    ours = {"DAF": "add"}.get(fusion, fusion.lower())
    fields = {"num_classes": 10, "base_channels": channels}
    module = aff_jax.create_model(name, ours, "pytorch", **fields)
    result = parity.compare(torch_module, module, None, images(2, 64, 64, 3), float64=float64)
    assert [row for row in result.rows if row.differs] == []
    assert result.equal


def compare_wrong_epsilon(float64):
    port = NETWORKS["vit"]()
    wrong = ViT(epsilon=1e-6)
    return parity.compare(
        randomized(port.torch_module), wrong, None, *port.inputs, float64=float64, **port.options
    )


def test_a_wrong_epsilon_is_found_in_a_vit():
    result = compare_wrong_epsilon(float64=True)
    assert not result.equal
    assert result.first_mismatch.path == "block0/norm1"
    assert "`epsilon` is 1e-06, PyTorch's is 1e-05" in result.explanation


class TorchCancellation(torch.nn.Module):
    """A norm of values that differ in their last digits only."""

    def __init__(self):
        super().__init__()
        self.enter = torch.nn.Linear(6, 8)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(self.enter(x) + 3000)


class Cancellation(nn.Module):
    """The linen module with the same layers."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        # Flax's fast variance would cancel completely.
        norm = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="norm")
        return norm(nn.Dense(8, name="enter")(x) + 3000)


def test_float32_says_where_it_is_too_noisy_to_find_a_mistake():
    torch_module, x = randomized(TorchCancellation()), images(4, 6)
    wrong = Cancellation(epsilon=1e-3)
    for module in (Cancellation(), wrong):
        result = parity.compare(torch_module, module, None, x)
        assert result.equal
        assert result.is_too_noisy
    precise = parity.compare(torch_module, wrong, None, x, float64=True)
    assert precise.first_mismatch.path == "norm"
    assert not precise.is_too_noisy
    assert parity.compare(torch_module, Cancellation(), None, x, float64=True).equal
