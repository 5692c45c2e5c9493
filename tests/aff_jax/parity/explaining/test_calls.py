"""Calls that only one of the networks makes, and the names of calls."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
import torch

from aff_jax import parity
from aff_jax.parity.explaining.calls import quote_call
from tests.aff_jax.convert.states import images, randomized
from tests.aff_jax.parity.handmade_rows import OFF, OUT, SAME


class TorchTwice(torch.nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.out = torch.nn.Linear(4, 2)
        self.calls = calls

    def forward(self, x):
        for _ in range(self.calls):
            x = torch.tanh(self.layer(x))
        return self.out(x)


class Twice(nn.Module):
    calls: int

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4, name="layer")
        for _ in range(self.calls):
            x = jnp.tanh(layer(x))
        return nn.Dense(2, name="out")(x)


@pytest.mark.parametrize(("jax_calls", "torch_calls"), [(2, 3), (3, 2), (2, 2)])
def test_a_call_more_or_less_is_reported_where_it_happens(jax_calls, torch_calls):
    x = images(3, 4)
    result = parity.compare(randomized(TorchTwice(torch_calls)), Twice(jax_calls), None, x)
    assert result.equal == (jax_calls == torch_calls)
    if jax_calls != torch_calls:
        assert (result.first_mismatch.path, result.first_mismatch.call) == ("layer", 3)
        assert "is called" in result.explanation
        assert "has no counterpart" in result.explanation


def test_calls_have_the_name_in_pytorch_and_the_path_where_it_differs():
    assert quote_call(SAME) == "`conv1` (stem/conv)"
    assert quote_call(OFF) == "`fuse.sigmoid` (stage1_block0/fuse/sigmoid, call 2)"
    assert quote_call(OUT) == "the whole network"
