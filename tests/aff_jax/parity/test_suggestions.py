"""Suggested names for networks whose layers have other names."""

import flax.linen as nn
import pytest
import torch

from aff_jax import parity
from aff_jax.parity.suggestions import _shorten
from tests.aff_jax.convert.states import images, randomized


class TorchNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


class Network(nn.Module):
    classes: int = 2

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(self.classes)(x.mean((1, 2)))


RENAME = {"conv": "Conv_0", "bn": "BatchNorm_0", "fc": "Dense_0"}


def test_the_suggestion_makes_the_comparison_work():
    network, x = randomized(TorchNetwork()), images(2, 5, 6, 3)
    with pytest.raises(ValueError, match="same sizes in the same order") as error:
        parity.compare(network, Network(), None, x)
    assert f"rename={RENAME}; on the command line, --rename=conv=Conv_0 and so on." in str(
        error.value
    )
    assert parity.compare(network, Network(), None, x, rename=RENAME, float64=True).equal


def test_there_is_no_suggestion_for_layers_of_other_sizes():
    with pytest.raises(ValueError, match="does not match this module") as error:
        parity.compare(TorchNetwork(), Network(classes=3), None, images(2, 5, 6, 3))
    assert "rename=" not in str(error.value).splitlines()[-1]


def test_names_with_a_common_prefix_are_merged():
    rename = {"a.b.x": "c.x", "a.b.y": "c.y", "z": "w"}
    assert _shorten(rename) == {"z": "w", "a.b": "c"}
