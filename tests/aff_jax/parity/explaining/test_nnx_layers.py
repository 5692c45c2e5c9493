"""Layers of NNX are found by path, with PyTorch's weights in their layouts."""

import numpy as np
import torch
from flax import nnx

from aff_jax.parity.explaining.nnx_layers import convert_to_nnx, find_nnx_layer
from aff_jax.parity.recording.nnx_recording import state_of_nnx
from aff_jax.parity.recording.torch_network import TorchNetwork


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs), nnx.Conv(3, 2, (5,), rngs=rngs)])
        self.norm = nnx.BatchNorm(2, rngs=rngs)


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layers = [torch.nn.Linear(3, 2), torch.nn.Conv1d(3, 2, 5)]
        self.layers, self.norm = torch.nn.ModuleList(layers), torch.nn.BatchNorm1d(2)


def test_layers_are_found_by_their_path():
    module = Net()
    layer = find_nnx_layer(module, state_of_nnx(module), "layers/1")
    assert isinstance(layer.module, nnx.Conv)
    assert layer.variables["nnx"]["kernel"].shape == (5, 3, 2)
    assert find_nnx_layer(module, state_of_nnx(module), "layers/2") is None


def test_weights_have_the_layouts_of_flax():
    theirs = TorchNet()
    weights = convert_to_nnx(TorchNetwork(theirs, "float32", None), Net())
    assert set(weights) == {"layers/0", "layers/1", "norm"}
    kernel = theirs.layers[1].weight.detach().numpy().transpose(2, 1, 0)
    np.testing.assert_array_equal(weights["layers/1"]["kernel"], kernel)
    assert weights["layers/0"]["kernel"].shape == (3, 2)
    assert set(weights["norm"]) == {"scale", "bias", "mean", "var"}
