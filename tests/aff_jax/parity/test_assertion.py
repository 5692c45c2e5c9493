"""The assertion for tests of ports."""

import flax.linen as nn
import pytest
import torch

from aff_jax import parity
from tests.aff_jax.convert.states import images, randomized


def torch_mlp():
    layers = [torch.nn.Linear(5, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 2)]
    return randomized(torch.nn.Sequential(*layers))


class MLP(nn.Module):
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(self.epsilon, name="1")(nn.Dense(6, name="0")(x))
        return nn.Dense(2, name="2")(x)


def test_equal_networks_pass_and_return_the_comparison():
    assert parity.assert_parity(torch_mlp(), MLP(), None, images(3, 5)).equal


def test_the_error_has_the_explanation_and_the_rows_around_the_mismatch():
    with pytest.raises(AssertionError, match=r"`epsilon` is 0\.1, PyTorch's is 1e-05") as error:
        parity.assert_parity(torch_mlp(), MLP(0.1), None, images(3, 5), float64=True)
    assert [line[:1] for line in str(error.value).splitlines()[-4:]] == [" ", "!", "!", "!"]
