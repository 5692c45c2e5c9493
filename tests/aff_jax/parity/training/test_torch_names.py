"""New names of the arrays of a PyTorch module, and tied weights."""

import pytest
import torch

from aff_jax.parity.training.torch_names import list_names, list_tied, match_names


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
        self.net["b"].weight = self.net["a"].weight


def test_names_are_renamed_and_tied_ones_left_out():
    network = Net()
    names = list_names(network, {"net.a": "first", "net": ""})
    assert names["first.weight"] == "net.a.weight"
    read = ["first.weight", "first.bias", "b.bias"]
    assert list_tied(network.state_dict(), names, read) == ["net.b.weight"]
    assert match_names(read, names)["b.bias"] == "net.b.bias"
    with pytest.raises(ValueError, match="the networks share no name"):
        match_names(["other"], names)
