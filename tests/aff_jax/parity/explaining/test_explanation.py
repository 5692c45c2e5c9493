"""Explanations of wrong weights, missing skips and calls, and wrong fields of a small network."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch

import aff_jax
from aff_jax import parity
from aff_jax.convert import from_torch
from tests.aff_jax.convert.states import images, randomized
from tests.reference import torch_aff


class TorchResidual(torch.nn.Module):
    """A residual block whose skip is added before the activation, and a second layer."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 6)
        self.norm = torch.nn.LayerNorm(6)
        self.second = torch.nn.Linear(6, 6)
        self.out = torch.nn.Linear(6, 3)

    def forward(self, x):
        y = torch.relu(self.first(x))
        z = self.second(self.norm(y))
        return self.out(torch.relu(z + y))


class Residual(nn.Module):
    """The linen module, with the skip connection or without."""

    skips: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Dense(6, name="first")(x))
        z = nn.Dense(6, name="second")(nn.LayerNorm(self.epsilon, name="norm")(y))
        return nn.Dense(3, name="out")(nn.relu(z + y if self.skips else z))


def compare_residual(module, change=None):
    torch_module, x = randomized(TorchResidual()), images(5, 6)
    variables = from_torch(torch_module.state_dict(), module, x)
    if change is not None:
        variables = {"params": change(jax.tree.map(np.array, variables["params"]))}
    return parity.compare(torch_module, module, variables, x, float64=True)


def test_a_residual_without_a_mistake_is_equal():
    result = compare_residual(Residual())
    assert result.equal
    assert result.explanation == ""


def test_a_missing_skip_connection_is_named():
    result = compare_residual(Residual(skips=False))
    assert result.first_mismatch.path == "out"
    expected = "PyTorch adds relu of the output of `first` to the output of `second` before relu"
    assert f"{expected}, and JAX does not." in result.explanation


def test_the_epsilon_of_a_layer_norm_is_named():
    result = compare_residual(Residual(epsilon=1e-6))
    assert result.first_mismatch.path == "norm"
    assert "`epsilon` is 1e-06, PyTorch's is 1e-05" in result.explanation


def transpose(params):
    params["second"]["kernel"] = params["second"]["kernel"].T
    return params


def flip(params):
    params["second"]["kernel"] = params["second"]["kernel"][::-1]
    return params


def change_one(params):
    params["out"]["kernel"][2, 1] += 0.25
    return params


def copy_twice(params):
    params["second"] = params["first"]
    return params


def swap(params):
    norm = params["norm"]
    norm["scale"], norm["bias"] = norm["bias"], norm["scale"]
    return params


def scale(params):
    params["second"]["kernel"] *= 3
    return params


def initialize(params):
    params["norm"]["bias"] *= 0
    return params


@pytest.mark.parametrize(
    ("change", "layer", "words"),
    [
        (transpose, "second", "`kernel` has PyTorch's values with axes 0 and 1 swapped"),
        (flip, "second", "flipped along axis 0"),
        (change_one, "out", "1 of the 18 values of `kernel` differs"),
        (copy_twice, "second", "are the weights of PyTorch's `first`"),
        (swap, "norm", "`bias` and `scale` are swapped"),
        (scale, "second", "PyTorch's `kernel` is 0.333333 times JAX's"),
        (initialize, "norm", "`bias` is 0 everywhere, as after initialization"),
    ],
)
def test_wrong_weights_are_named(change, layer, words):
    result = compare_residual(Residual(), change)
    assert result.first_mismatch.path == layer
    assert words in result.explanation
    assert "With PyTorch's weights the layer agrees." in result.explanation


def test_other_layers_have_their_names_in_pytorch():
    class TorchNested(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))

        def forward(self, x):
            return self.stem(x)

    class Stem(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="1")(nn.Dense(4, name="0")(x))

    class Nested(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Stem(name="enter")(x)

    torch_module, x, rename = randomized(TorchNested()), images(5, 4), {"stem": "enter"}
    variables = from_torch(torch_module.state_dict(), Nested(), x, rename=rename)
    variables["params"]["enter"]["1"] = variables["params"]["enter"]["0"]
    result = parity.compare(torch_module, Nested(), variables, x, float64=True, rename=rename)
    assert "are the weights of PyTorch's `stem.0`" in result.explanation


def test_a_wrong_gain_is_named():
    torch_module, x = randomized(torch_aff.AFF(8)), images(2, 4, 4, 8)
    result = parity.compare(torch_module, aff_jax.AFF(), None, x, x + 1, float64=True)
    assert result.first_mismatch.path == ""
    assert "`gain` is 1.0. With gain=2.0 the layer agrees" in result.explanation


class ExchangedAFF(torch_aff.AFF):
    """An AFF whose weights M apply to the second input."""

    def forward(self, x, y):
        return super().forward(y, x)


def test_exchanged_weights_of_a_fusion_are_named():
    torch_module, x = randomized(ExchangedAFF(8)), images(2, 4, 4, 8)
    y = images(2, 4, 4, 8, seed=1)
    result = parity.compare(torch_module, aff_jax.AFF(gain=2), None, x, y, float64=True)
    assert "With its two inputs exchanged it agrees" in result.explanation
    assert "the second input by M" in result.explanation


class TanhAFF(torch_aff.AFF):
    """An AFF whose weights are not those of a sigmoid."""

    def forward(self, x, y):
        M = torch.tanh(self.local_att(x + y) + self.global_att(x + y))
        return 2 * x * M + 2 * y * (1 - M)


def test_what_was_tried_is_said_if_the_cause_is_not_found():
    torch_module, x = randomized(TanhAFF(8)), images(2, 4, 4, 8)
    result = parity.compare(torch_module, aff_jax.AFF(gain=2), None, x, x + 1, float64=True)
    assert "The cause was not found. Tried: " in result.explanation


def test_nan_in_the_inputs_is_named():
    x = images(2, 6)
    x[0, 1] = np.nan
    result = parity.compare(randomized(torch.nn.Linear(6, 2)), nn.Dense(2), None, x)
    assert "has NaN at the same places in both networks" in result.explanation


def test_wrong_weights_and_a_wrong_field_of_one_layer_are_both_named():
    result = compare_residual(Residual(epsilon=1e-3), swap)
    assert result.first_mismatch.path == "norm"
    assert "`bias` and `scale` are swapped." in result.explanation
    assert "`epsilon` is 0.001, PyTorch's is 1e-05. With PyTorch's" in result.explanation
    assert "With PyTorch's weights the layer agrees" not in result.explanation
