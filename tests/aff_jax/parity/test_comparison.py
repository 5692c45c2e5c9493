"""Comparison of equal and of different networks, activation by activation."""

import json
import math

import flax.linen as nn
import pytest
import torch

import aff_jax
from aff_jax import parity
from aff_jax.convert import from_torch
from tests.aff_jax.convert.test_pytorch import LinenNetwork, TorchNetwork, images, randomized
from tests.reference import torch_aff


def torch_network(blocks=(1,), fuse_type="iAFF"):
    network = torch_aff.ResNet(
        torch_aff.basic_block, blocks, fuse_type, num_classes=4, small_input=True, features=8
    )
    return randomized(network)


@pytest.fixture(scope="module")
def network():
    return torch_network()


def linen_model(reference, blocks=(1,)):
    fields = aff_jax.create_model("resnet18", "iaff", reference).fusion_fields
    return aff_jax.hosts.resnet.ResNet(
        num_classes=4,
        block="basic",
        blocks_per_stage=blocks,
        base_channels=8,
        fusion="iaff",
        fusion_fields=fields,
        small_input=True,
    )


@pytest.mark.parametrize(("float64", "largest"), [(False, 1e-5), (True, 1e-13)])
def test_equal_networks(float64, largest):
    network, model = torch_network((1, 1)), linen_model("pytorch", (1, 1))
    outcome = parity.compare(network, model, None, images(2, 12, 12, 3), float64=float64)
    assert outcome.equal
    assert outcome.first_mismatch is None
    assert max(row.max_rel for row in outcome.rows) < largest
    rows = [(row.path, row.call) for row in outcome.rows]
    assert rows[0] == ("stem/conv", 1)
    assert rows[-1] == ("", 1)
    # Both calls of the shared branch, and the weights of both iterations.
    for call in (1, 2):
        assert ("stage1_block0/fuse/global", call) in rows
        assert ("stage1_block0/fuse/sigmoid", call) in rows
    # Every layer with parameters has a row.
    paths = {path for path, _ in rows}
    for layer in ("stem/norm", "stage2_block0/downsample/norm", "stage2_block0/fuse/local2/expand"):
        assert layer in paths


def test_rematerialized_networks_are_compared_in_full(network):
    outcome = parity.compare(
        network, linen_model("pytorch").clone(remat=True), None, images(2, 12, 12, 3), float64=True
    )
    assert outcome.equal
    assert ("stage1_block0/fuse/sigmoid", 1) in [(row.path, row.call) for row in outcome.rows]


def test_a_wrong_reference_differs_first_in_the_second_iteration_of_the_first_fusion(network):
    outcome = parity.compare(network, linen_model("paper"), None, images(2, 12, 12, 3))
    assert not outcome.equal
    assert outcome.first_mismatch.path == "stage1_block0/fuse/global2/reduce"
    assert outcome.first_mismatch.note == "called in JAX only"
    text = outcome.to_text()
    assert "This is iteration 2 of the fusion stage1_block0/fuse" in text
    before = outcome.rows[: outcome.rows.index(outcome.first_mismatch)]
    assert all(row.max_rel < 1e-5 for row in before)


def test_a_wrong_gain_differs_first_in_the_first_fusion():
    model = aff_jax.hosts.resnet.ResNet(
        num_classes=4, block="basic", blocks_per_stage=(1,), base_channels=8, small_input=True
    )
    outcome = parity.compare(torch_network(fuse_type="AFF"), model, None, images(2, 12, 12, 3))
    assert outcome.first_mismatch.path == "stage1_block0/fuse"
    assert outcome.first_mismatch.max_rel == pytest.approx(0.5, rel=1e-3)


def test_a_changed_weight_differs_first_in_its_layer(network):
    x = images(2, 12, 12, 3)
    variables = from_torch(network.state_dict(), linen_model("pytorch"), x)
    kernel = variables["params"]["stage1_block0"]["conv1"]["conv"]["kernel"]
    variables["params"]["stage1_block0"]["conv1"]["conv"]["kernel"] = kernel.at[0, 0].add(1)
    outcome = parity.compare(network, linen_model("pytorch"), variables, x)
    assert outcome.first_mismatch.path == "stage1_block0/conv1/conv"


def test_nan_differs():
    x = images(2, 5, 6, 8)
    x[0, 0, 0, 0] = math.nan
    outcome = parity.compare(randomized(TorchNetwork()), LinenNetwork(), None, x)
    assert not outcome.equal
    assert outcome.first_mismatch.path == "mix"
    report = json.loads(outcome.to_json())
    assert report["first_mismatch"]["max_rel"] is None


def test_custom_modules_are_compared_and_not_changed():
    network = randomized(TorchNetwork())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    x = images(2, 5, 6, 8)
    outcome = parity.compare(network, LinenNetwork(), None, x, float64=True)
    assert outcome.equal
    assert [row.name for row in outcome.rows][:2] == ["mix", "mix_norm"]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(part._forward_hooks for part in network.modules())


class Pair(nn.Module):
    """Module with two outputs, from a layer whose name PyTorch does not have."""

    factor: float = 3.0

    @nn.compact
    def __call__(self, x, train):
        y = nn.Dense(2, name="somewhere")(x)
        return {"one": y, "other": self.factor * y}


class TorchPair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.elsewhere = torch.nn.Linear(3, 2)

    def forward(self, x, train):
        assert train is False
        y = self.elsewhere(x)
        return y, 3 * y


def test_compares_every_output_and_passes_flags_on():
    pair, x = TorchPair(), images(2, 3)
    rename = {"elsewhere": "somewhere"}
    outcome = parity.compare(pair, Pair(), None, x, False, rename=rename)
    assert outcome.equal
    assert [row.path for row in outcome.rows] == ["somewhere", "[0]", "[1]"]
    wrong = parity.compare(pair, Pair(factor=-1.0), None, x, False, rename=rename)
    assert wrong.first_mismatch.path == "[1]"


def test_layers_without_a_counterpart_are_listed():
    pair, x = TorchPair(), images(2, 3)
    state = {name.replace("else", "some"): value for name, value in pair.state_dict().items()}
    variables = from_torch(state, Pair(), x, False)
    outcome = parity.compare(pair, Pair(), variables, x, False)
    assert outcome.equal
    assert outcome.unmatched == ["somewhere", "elsewhere (PyTorch)"]


def test_rejects_empty_inputs_and_negative_tolerances(network):
    with pytest.raises(ValueError, match="expected inputs with at least one value"):
        parity.compare(network, linen_model("pytorch"), None, images(0, 12, 12, 3))
    with pytest.raises(ValueError, match="expected a tolerance of at least 0, got -1"):
        parity.compare(network, linen_model("pytorch"), None, images(2, 12, 12, 3), tolerance=-1)
