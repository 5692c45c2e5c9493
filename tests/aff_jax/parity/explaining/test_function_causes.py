"""Functions of single activations, and of sums of two."""

import numpy as np

from aff_jax.parity.explaining.evidence import SharedArray
from aff_jax.parity.explaining.function_causes import (
    find_combinations,
    find_functions,
    find_one_function,
)

RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal((2, 4, 4, 3)) for _ in range(2))
GAMMA = RNG.standard_normal(3)
RECENT = [SharedArray("`b`", B, B), SharedArray("`a`", A, A)]
PARAMETERS = [SharedArray("`gamma`", GAMMA, GAMMA, is_parameter=True)]


def fits(x, y):
    return x.shape == y.shape and np.allclose(x, y, atol=1e-12)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_different_functions_of_one_activation_are_named():
    found = find_functions(np.maximum(A, 0), np.tanh(A), RECENT, [], fits)
    assert found == "JAX applies relu to `a`, and PyTorch tanh."


def test_a_factor_that_was_forgotten_before_a_softmax_is_named():
    found = find_functions(softmax(A), softmax(A / 8), RECENT, [], fits)
    assert found == (
        "JAX applies softmax over the channels to `a`, and PyTorch softmax over the channels of "
        "0.125 times the values."
    )


def test_reductions_of_a_sum_are_named():
    end = A + B
    found = find_functions(end.max((1, 2)), end.mean((1, 2)), RECENT, [], fits)
    assert found == (
        "JAX applies the maximum over the image to the sum of `a` and `b`, and PyTorch the mean "
        "over the image."
    )


def test_reductions_of_a_scaled_sum_are_named():
    end = A + GAMMA * B
    found = find_functions(end.mean((1, 2)), end.sum((1, 2)), RECENT, PARAMETERS, fits)
    assert "to the sum of `a` and `gamma` times `b`, and PyTorch the sum over the" in found


def test_combinations_and_functions_of_one_side_are_named():
    found = find_combinations(A * B, A + B, RECENT, fits)
    assert found == "JAX computes `a` times `b`, and PyTorch `a` plus `b`."
    found = find_one_function(np.tanh(A), RNG.standard_normal(A.shape), RECENT, fits)
    assert found.startswith("JAX applies tanh to `a`. PyTorch does something else")


def test_other_parts_of_the_channels_are_named():
    wide = RNG.standard_normal((2, 5, 6))
    found = find_functions(
        wide[..., :3], np.tanh(wide[..., 3:]), [SharedArray("`wide`", wide, wide)], [], fits
    )
    assert found == (
        "JAX applies the identity to the first half of the channels of `wide`, and PyTorch tanh to "
        "the second half of the channels of `wide`."
    )


def test_leaky_relus_before_a_reduction_are_named():
    ends = [np.where(A < 0, slope * A, A).mean((1, 2)) for slope in (0.01, 0.2)]
    found = find_functions(*ends, RECENT, [], fits)
    assert "JAX applies leaky relu with slope 0.01 and the mean over the image to `a`" in found
    assert "PyTorch leaky relu with slope 0.2 and the mean over the image" in found


def test_a_combination_of_one_side_is_named():
    found = find_one_function(RNG.standard_normal(A.shape), A * B, RECENT, fits)
    assert found == "PyTorch computes `a` times `b`. JAX does something else that was not found."
