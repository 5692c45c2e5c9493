"""The description of modules, inputs and versions."""

import flax.linen as nn
import numpy as np
import torch

from aff_jax import parity
from aff_jax.parity.about import describe
from aff_jax.parity.recording.recorder import Inputs


def test_a_comparison_says_what_was_compared():
    x = np.ones((2, 3), np.float32)
    outcome = parity.compare(torch.nn.Linear(3, 4), nn.Dense(4), None, x)
    assert outcome.about["JAX inputs"] == outcome.about["PyTorch inputs"] == "float32 2x3"
    assert outcome.about["PyTorch module"] == "Linear"
    assert outcome.about["versions"].startswith("aff_jax ")
    inputs = Inputs((x, True, None), {"mask": np.ones(3, bool)})
    described = describe(torch.nn.Linear(3, 4), nn.Dense(4), inputs, Inputs((), {}))
    assert described["JAX inputs"] == "float32 2x3, True, None, mask=bool 3"
    assert described["PyTorch inputs"] == "none"
