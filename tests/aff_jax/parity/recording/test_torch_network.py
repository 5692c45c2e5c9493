"""A PyTorch module with the names of its linen counterpart."""

import flax.linen as nn
import numpy as np
import torch

from aff_jax.inspection import inspect_module
from aff_jax.parity.recording.recorder import Inputs
from aff_jax.parity.recording.torch_network import TorchNetwork
from tests.aff_jax.convert.states import images, randomized


class Tied(torch.nn.Module):
    """Two layers that are one."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4, bias=False)
        self.second = self.first

    def forward(self, x):
        return self.second(self.first(x))


def test_names_are_renamed_and_a_shared_layer_has_its_first_name():
    network = TorchNetwork(Tied(), "float64", {"first": "a", "second": "b"})
    assert network.names == {"first": "a", "second": "b", "": ""}
    assert (network.first_name("b"), network.first_name("c")) == ("a", "c")
    assert network.old_name("b") == "second"
    assert network.has_weights == {"": False, "a": True}
    assert not network.has_sequences
    calls = network.record(Inputs((np.ones((2, 4)),), {}))
    assert [(call.module, call.number) for call in calls] == [("a", 1), ("a", 2), ("", 1)]


def test_a_submodule_with_the_empty_name_is_the_network():
    network = TorchNetwork(torch.nn.Sequential(torch.nn.Linear(3, 2)), "float32", {"0": ""})
    assert network.names == {"0": "", "": "(whole)"}


def test_inputs_and_weights_are_changed_by_one_unit_and_weights_restored():
    network = TorchNetwork(randomized(Tied()), "float64", None)
    before = network.module.first.weight.clone()
    *_, output = network.record_twice(Inputs((images(2, 4).astype(np.float64),), {}))
    # A few units in the last place of float64.
    assert 0 < output.noise < 1e-14
    assert network.module.first.weight.equal(before)


class Once(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4, use_bias=False, name="first")
        return layer(layer(x))


class Copied(nn.Module):
    @nn.compact
    def __call__(self, x):
        for name in ("first", "second"):
            x = nn.Dense(4, use_bias=False, name=name)(x)
        return x


def test_a_tied_weight_is_converted_under_the_names_of_the_linen_module():
    network, inputs = TorchNetwork(Tied(), "float32", None), Inputs((images(2, 4),), {})
    for module, names in ((Once(), {"first"}), (Copied(), {"first", "second"})):
        structure = inspect_module(module, inputs.args)
        assert network.convert(module, inputs, structure)["params"].keys() == names
