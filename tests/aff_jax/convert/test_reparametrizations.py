"""Weights under weight_norm and spectral_norm are folded into plain ones."""

import warnings

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

from aff_jax.convert import from_torch, to_torch
from aff_jax.convert.reparametrizations import fold_reparametrizations
from tests.aff_jax.convert.states import images


def weight_norm(layer, **fields):
    with warnings.catch_warnings(action="ignore"):  # deprecated, but in many checkpoints
        return torch.nn.utils.weight_norm(layer, **fields)


NORMS = {
    "weight_norm": weight_norm,
    "weight_norm of the whole": lambda layer: weight_norm(layer, dim=None),
    "weight_norm of inputs": lambda layer: weight_norm(layer, dim=1),
    "parametrized weight_norm": parametrizations.weight_norm,
    "spectral_norm": torch.nn.utils.spectral_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
}

FIELDS = {"param_dtype": np.float64, "name": "layer"}

LAYERS = {
    "dense": (lambda: torch.nn.Linear(4, 5), lambda: nn.Dense(5, **FIELDS), (2, 4)),
    "convolution": (
        lambda: torch.nn.Conv1d(4, 5, 3),
        lambda: nn.Conv(5, (3,), padding="VALID", **FIELDS),
        (2, 9, 4),
    ),
    "transposed convolution": (
        lambda: torch.nn.ConvTranspose1d(5, 5, 2, 2),
        lambda: nn.ConvTranspose(5, (2,), (2,), padding="VALID", **FIELDS),
        (2, 4, 5),
    ),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_folded_weights_compute_the_same(norm, kind):
    make, make_ours, shape = LAYERS[kind]
    theirs = make().double()
    with torch.no_grad():
        theirs.weight.mul_(3)
    theirs = NORMS[norm](theirs)
    for _ in range(2):  # power iterations of spectral_norm
        theirs(torch.zeros(shape, dtype=torch.float64).movedim(-1, 1))
    state = {f"layer.{k}": v.numpy() for k, v in theirs.eval().state_dict().items()}
    assert "layer.weight" not in state

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return make_ours()(x)

    with jax.enable_x64(True):
        x = images(*shape).astype(np.float64)
        variables = from_torch(state, Network(), x)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1).numpy()
        np.testing.assert_allclose(Network().apply(variables, x), expected, rtol=0, atol=1e-12)
        written = to_torch(variables, Network(), x)
        assert written.keys() == {"layer.weight", "layer.bias"}
        with pytest.raises(ValueError, match=r"(?s)layer\.weight.*weight_norm or spectral_norm"):
            to_torch(variables, Network(), x, names=state)


def test_recurrent_weights():
    theirs = torch.nn.LSTM(3, 5, batch_first=True).double()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        theirs = weight_norm(theirs, name=name)
    rnn, x = nn.RNN(nn.LSTMCell(5, param_dtype=np.float64)), images(2, 4, 3).astype(np.float64)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))[0].numpy()
    with jax.enable_x64(True):
        variables = from_torch(theirs.state_dict(), rnn, x)
        np.testing.assert_allclose(rnn.apply(variables, x), expected, rtol=0, atol=1e-12)


def test_arrays_that_the_module_has_are_kept():
    arrays = {"weight_g": np.ones((5, 1)), "weight_v": np.ones((5, 4))}
    assert fold_reparametrizations(arrays, {"weight_g": None}).keys() == arrays.keys()
    assert fold_reparametrizations(arrays, {"weight": None}).keys() == {"weight"}
    odd = {"weight_g": np.ones((5, 1)), "weight_v": np.ones((3, 4))}
    assert fold_reparametrizations(odd, {"weight": None}).keys() == odd.keys()
