"""Errors of `compare`, which say what was expected, what came, and what to do."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch

from aff_jax import parity
from tests.aff_jax.convert.states import images

X = images(2, 5, 3)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="head")(x)


class TorchLayer(torch.nn.Module):
    def __init__(self, name="head"):
        super().__init__()
        setattr(self, name, torch.nn.Linear(3, 4))

    def forward(self, x):
        (layer,) = self.children()
        return layer(x)


class Raises(TorchLayer):
    def forward(self, x):
        raise RuntimeError("expected 7 channels")


class TorchDouble(torch.nn.Module):
    """A module without parameters."""

    def forward(self, x):
        return 2 * x


class Double(nn.Module):
    """A module without parameters."""

    def __call__(self, x):
        return 2 * x


VARIABLES = {"params": {"head": {"kernel": np.ones((3, 4)), "bias": np.ones(4)}}}


def test_networks_that_share_no_name():
    with pytest.raises(ValueError, match="expected layers of the same names") as error:
        parity.compare(TorchLayer("head_"), Layer(), VARIABLES, X)
    for words in ("nearest in PyTorch: head_", "rename={'head_': 'head'}"):
        assert words in str(error.value)
    with pytest.raises(ValueError, match=r"missing     head.bias .*nearest: head_.bias"):
        parity.compare(TorchLayer("head_"), Layer(), None, X)


def test_a_forward_that_raises():
    with pytest.raises(ValueError, match="RuntimeError: expected 7 channels") as error:
        parity.compare(Raises(), Layer(), None, X)
    for words in ("(2, 5, 3)", "(2, 3, 5)", "(5, 2, 3)", "Pass `torch_inputs`"):
        assert words in str(error.value)


@pytest.mark.parametrize("x", [X, np.arange(6), np.float32(3)], ids=["floats", "integers", "0-d"])
def test_modules_without_parameters_are_compared(x):
    assert parity.compare(TorchDouble(), Double(), None, x).equal


def test_a_module_without_parameters_for_one_with_them():
    with pytest.raises(ValueError, match="expected a PyTorch module with weights for the 2"):
        parity.compare(TorchDouble(), Layer(), None, X)
    with pytest.raises(ValueError, match="2 unexpected"):
        parity.compare(TorchLayer(), Double(), None, X)


# PyTorch deprecates its TorchScript.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: (TorchLayer(), Layer(), None, torch.zeros(2, 3)), "got a torch.Tensor"),
        (lambda: (Layer(), TorchLayer(), None, X), "the other way round"),
        (lambda: (TorchLayer(), VARIABLES, None, X), "Pass the module itself, not its variables"),
        (lambda: (TorchLayer(), Layer(), X), "or None as the third argument, got a ndarray"),
        (lambda: (TorchLayer, Layer(), None, X), "got the class TorchLayer"),
        (lambda: (TorchLayer(), Layer, None, X), "got the class Layer"),
        (lambda: (TorchLayer().state_dict(), Layer(), None, X), "not its state dict"),
        (lambda: (torch.jit.script(torch.nn.ReLU()), Layer(), None, X), "got a ScriptModule"),
    ],
)
def test_arguments_of_the_wrong_kind(call, words):
    with pytest.raises(TypeError, match=words):
        parity.compare(*call())


def test_an_unknown_layout():
    with pytest.raises(ValueError, match=r"unknown layout 'nchw'\. Known: channels_first, same"):
        parity.compare(TorchLayer(), Layer(), None, X, layout="nchw")


def test_random_keys_are_passed_on():
    class Keyed(nn.Module):
        @nn.compact
        def __call__(self, x, key):
            assert jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
            return nn.Dense(4, name="head")(x)

    key = jax.random.key(0)
    assert parity.compare(TorchLayer(), Keyed(), None, X, key, torch_inputs=[X]).equal
