"""Evidence about the layer of the first mismatch."""

import flax.linen as nn
import jax
import numpy as np
import torch

from aff_jax.convert import from_torch
from aff_jax.inspection import inspect_module
from aff_jax.parity.explaining.evidence import JaxNetwork, gather_evidence
from aff_jax.parity.recording.inputs import as_dtype
from aff_jax.parity.recording.recorder import Inputs
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.rows import Pair, Row
from tests.aff_jax.convert.states import images, randomized


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="1")(nn.Dense(6, name="0")(x))


def test_has_the_inputs_layers_and_weights_of_both_sides():
    x = images(3, 5)
    module = randomized(torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Linear(6, 2)))
    variables = as_dtype(jax.device_get(from_torch(module.state_dict(), MLP(), x)), "float32")
    variables["params"]["1"]["bias"] = np.ones(2, np.float32)
    network = JaxNetwork(MLP(), variables, Inputs((x,), {}), inspect_module(MLP(), (x,)))
    theirs = TorchNetwork(module, "float32", None)
    pair = Pair(Row("1", "1", 1, (3, 2)), x, x, torch_call=1)
    evidence = gather_evidence(pair, [pair], network, theirs, Inputs((x,), {}))
    hidden = module[0](torch.from_numpy(x)).detach().numpy()
    # float32, five products.
    for call in (evidence.call, evidence.torch_call):
        np.testing.assert_allclose(call.inputs[0], hidden, rtol=1e-5, atol=1e-6)
    assert type(evidence.layer.module) is nn.Dense
    assert evidence.torch_layer.out_features == 2
    np.testing.assert_array_equal(evidence.weights["bias"], 1)
    bias = module[1].bias.detach().numpy()
    np.testing.assert_array_equal(evidence.torch_weights["1"]["bias"], bias)
    assert [earlier.label for earlier in evidence.inputs] == ["the input"]
