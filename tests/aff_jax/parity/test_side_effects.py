"""Copies of PyTorch modules: old weight norms, hooks, and the random state of the user."""

import flax.linen as nn
import numpy as np
import pytest
import torch

from aff_jax import parity
from aff_jax.parity import compare
from tests.aff_jax.parity.training.networks import IMAGES, Small, TorchSmall
from tests.aff_jax.parity.training.networks import compare as compare_training

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


NORMS = {
    "weight_norm": torch.nn.utils.weight_norm,
    "spectral_norm": torch.nn.utils.spectral_norm,
    "new weight_norm": torch.nn.utils.parametrizations.weight_norm,
    "new spectral_norm": torch.nn.utils.parametrizations.spectral_norm,
    "orthogonal": torch.nn.utils.parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_computed_weights_are_copied_and_folded(norm, float64):
    theirs = torch.nn.Sequential(NORMS[norm](torch.nn.Linear(6, 3)))
    theirs(torch.from_numpy(X))

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="0")(x)

    assert compare(theirs, Ours(), None, X, float64=float64).equal
    assert theirs[0].weight.grad_fn is not None  # the module itself still has its norm


def test_hooks_run_in_the_copy_and_may_change_outputs():
    theirs, calls = torch.nn.Sequential(torch.nn.Linear(6, 3)), []
    theirs[0].register_forward_hook(lambda module, _, output: calls.append(module) or 2 * output)

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return 2 * nn.Dense(3, name="0")(x)

    result = compare(theirs, Ours(), None, X, tolerance=1e-5)
    assert calls
    assert theirs[0] not in calls
    assert result.rows[-1].path == ""
    assert not result.rows[-1].differs


def test_the_random_state_is_not_changed(monkeypatch):
    class Noisy(TorchSmall):
        def forward(self, x):
            return super().forward(x) + 0 * torch.rand(5)

    def refuse(_seed):
        raise AssertionError("torch.manual_seed seeds the generators of GPUs too")

    network = Noisy()
    monkeypatch.setattr(torch, "manual_seed", refuse)
    before = torch.random.get_rng_state()
    assert compare_training(network, steps=1).equal
    assert parity.compare(network, Small(), None, IMAGES).equal
    assert torch.equal(torch.random.get_rng_state(), before)
