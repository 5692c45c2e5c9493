"""Training steps of attention and recurrent layers, whose arrays PyTorch packs."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aff_jax import parity
from aff_jax.convert.packed_forms import Form
from aff_jax.parity.training.packed_arrays import Packing
from tests.aff_jax.convert.states import images, randomized

X = images(3, 5, 8)


class Encoder(nn.Module):
    """`torch.nn.TransformerEncoderLayer`; `heads` and `approximate` are mistakes."""

    heads: int = 2
    approximate: bool = False

    @nn.compact
    def __call__(self, x):
        attention = nn.MultiHeadDotProductAttention(self.heads, name="self_attn")
        x = nn.LayerNorm(1e-5, name="norm1")(x + attention(x))
        y = nn.gelu(nn.Dense(16, name="linear1")(x), approximate=self.approximate)
        return nn.LayerNorm(1e-5, name="norm2")(x + nn.Dense(8, name="linear2")(y))


def torch_encoder(**options):
    layer = torch.nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0, activation="gelu", batch_first=True, **options
    )
    return randomized(layer)


class Recurrent(nn.Module):
    cell: type
    dtype: object = jnp.float64

    @nn.compact
    def __call__(self, x):
        return nn.RNN(self.cell(8, param_dtype=self.dtype), name="cell")(x)


class TorchRecurrent(torch.nn.Module):
    def __init__(self, kind, frozen):
        super().__init__()
        torch.manual_seed(0)
        self.cell = kind(8, 8, batch_first=True)
        self.cell.bias_hh_l0.requires_grad_(not frozen)

    def forward(self, x):
        return self.cell(x)[0]


def compare(torch_module, module, optimizer=None, torch_optimizer=None, float64=True):
    return parity.compare_step(
        torch_module,
        module,
        None,
        X,
        loss=lambda y: (y**2 * np.arange(8)).mean(),
        torch_loss=lambda y: (y**2 * torch.arange(8)).mean(),
        optimizer=optimizer or optax.sgd(0.1, momentum=0.9),
        torch_optimizer=torch_optimizer or (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        float64=float64,
    )


@pytest.mark.parametrize("float64", [False, True])
def test_a_transformer_layer_is_equal(float64):
    result = compare(torch_encoder(), Encoder(), float64=float64)
    assert result.equal, result.to_text()
    compared = {(row.kind, row.name) for row in result.rows}
    for name in ("self_attn.in_proj_weight", "self_attn.in_proj_bias", "linear2.weight"):
        assert {("gradient", name), ("weight", name)} <= compared
    assert ("moment", "self_attn.in_proj_weight.momentum_buffer") in compared


def test_mistakes_in_a_transformer_layer_are_found():
    adamw = optax.adamw(1e-2, b1=0.8, weight_decay=0.1)
    result = compare(
        torch_encoder(), Encoder(), adamw, lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1)
    )
    assert "beta1=0.8, and PyTorch's optimizer has beta1=0.9" in result.explanation
    for wrong in (Encoder(heads=4), Encoder(approximate=True)):
        result = compare(torch_encoder(), wrong)
        assert result.first_mismatch.kind == "loss"
        assert "The outputs of the networks in training mode differ" in result.explanation


CELLS = {"lstm": (torch.nn.LSTM, nn.OptimizedLSTMCell), "gru": (torch.nn.GRU, nn.GRUCell)}


def test_two_trained_biases_are_named():
    for kind, cell in CELLS.values():
        result = compare(TorchRecurrent(kind, frozen=False), Recurrent(cell))
        row = result.first_mismatch
        assert (row.step, row.kind, row.name) == (1, "weight", "cell.bias_ih_l0")
        assert "their sum changes twice as fast as the one bias of JAX" in result.explanation
        assert "SGD" not in result.explanation


def test_a_recurrent_layer_with_one_trained_bias_is_equal():
    result = compare(TorchRecurrent(torch.nn.LSTM, frozen=True), Recurrent(nn.OptimizedLSTMCell))
    assert result.equal, result.to_text()
    names = {row.name for row in result.rows if row.kind == "weight"}
    assert {"cell.weight_hh_l0", "cell.bias_ih_l0"} <= names


def test_a_state_in_float32_is_explained():
    theirs, ours = TorchRecurrent(torch.nn.GRU, False), Recurrent(nn.GRUCell, jnp.float32)
    advice = "or compare with float64=False"
    with pytest.raises(ValueError, match=advice):
        parity.compare(theirs, ours, None, X, float64=True)
    with pytest.raises(ValueError, match=advice):
        compare(theirs, ours)
    assert parity.compare(theirs, ours, None, X).equal


def test_biases_are_added_in_one_array():
    form = Form({"ih": ("a", "b"), "hh": ("a", "c")})
    packing = Packing([form])
    arrays = {"a": np.array([1.0]), "b": np.array([2.0]), "c": np.array([3.0]), "d": np.zeros(1)}
    assert packing.to_torch_names(list(arrays)) == ["d", "ih", "hh"]
    assert packing.to_torch_arrays(arrays, sums=True)["hh"].tolist() == [0, 3]
    assert packing.to_torch_arrays(arrays, sums=False)["hh"].tolist() == [1, 3]
    added = packing.add_biases({"ih": np.array([1.0, 2]), "hh": np.array([5.0, 3])})
    assert {name: array.tolist() for name, array in added.items()} == {"ih": [6, 2], "hh": [0, 3]}
    assert packing.summed == {"ih", "hh"}
