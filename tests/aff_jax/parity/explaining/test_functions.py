"""The functions that may stand between two layers compute what their names say."""

import jax
import numpy as np
import pytest

from aff_jax.parity.explaining.functions import (
    apply_torch,
    list_activations,
    list_poolings,
    list_resizings,
    negative_slope,
    softmax_factor,
)

X = np.random.default_rng(0).standard_normal((2, 6, 6, 3))
ACTIVATIONS = dict(list_activations())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", jax.nn.relu),
        ("gelu with erf", lambda x: jax.nn.gelu(x, approximate=False)),
        ("gelu with tanh", jax.nn.gelu),
        ("silu", jax.nn.silu),
        ("hard_swish", jax.nn.hard_swish),
        ("mish", jax.nn.mish),
        ("softmax over the channels", jax.nn.softmax),
    ],
)
def test_activations_are_those_of_jax(name, function):
    with jax.enable_x64(True):
        np.testing.assert_allclose(ACTIVATIONS[name](X), function(X), atol=1e-12)


def test_activations_have_names_of_their_own_and_the_identity_is_first():
    functions = list_activations()
    assert functions[0][0] == "the identity"
    assert len(ACTIVATIONS) == len(functions)
    assert all(function(X).shape == X.shape for function in ACTIVATIONS.values())


def test_apply_torch_computes_in_float64():
    assert apply_torch(lambda x: 2 * x, np.float32([1])).dtype == np.float64


@pytest.mark.parametrize("slope", [0.01, 0.2, -0.5])
def test_the_slope_of_a_leaky_relu_is_found(slope):
    assert negative_slope(X, np.where(X < 0, slope * X, X)) == pytest.approx(slope)


def test_other_functions_have_no_slope():
    assert negative_slope(X, np.tanh(X)) is None
    assert negative_slope(np.abs(X), np.abs(X)) is None


def test_the_factor_before_a_softmax_is_found():
    assert softmax_factor(X, np.asarray(jax.nn.softmax(0.25 * X))) == pytest.approx(0.25, rel=1e-4)
    assert softmax_factor(X, np.asarray(jax.nn.softmax(X**2))) is None
    assert softmax_factor(X, X) is None


@pytest.mark.parametrize("target", [(3, 3), (6, 6), (1, 1), (2, 2)])
def test_poolings_reach_the_target(target):
    poolings = {n: f for n, f in list_poolings((6, 6), target) if "pooling" in n or "the m" in n}
    assert poolings
    assert {function(X).shape for function in poolings.values()} == {(2, *target, 3)}


def test_poolings_compute_what_they_say():
    poolings = dict(list_poolings((6, 6), (3, 3)))
    blocks = X.reshape(2, 3, 2, 3, 2, 3)
    np.testing.assert_allclose(
        poolings["maximum pooling with window 2, stride 2"](X), blocks.max((2, 4))
    )
    np.testing.assert_allclose(
        poolings["average pooling with window 2, stride 2"](X), blocks.mean((2, 4))
    )
    whole = dict(list_poolings((6, 6), (1, 1)))["the mean over the image"]
    np.testing.assert_allclose(whole(X), X.mean((1, 2), keepdims=True))


def test_resizings_reach_the_target():
    resizings = dict(list_resizings((12, 9)))
    assert {function(X).shape for function in resizings.values()} == {(2, 12, 9, 3)}
    doubled = dict(list_resizings((12, 12)))["resizing with mode='nearest'"](X)
    np.testing.assert_array_equal(doubled, X.repeat(2, 1).repeat(2, 2))
