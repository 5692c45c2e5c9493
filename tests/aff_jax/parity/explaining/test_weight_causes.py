"""Weights of a layer are compared with PyTorch's, which are converted."""

import numpy as np
import pytest

from aff_jax.parity.explaining.weight_causes import explain_weights

RNG = np.random.default_rng(0)
KERNEL, SQUARE = RNG.standard_normal((3, 3, 4, 5)), RNG.standard_normal((6, 6))
BIAS = RNG.standard_normal(5)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (SQUARE.T, SQUARE, "with axes 0 and 1 swapped"),
        (SQUARE[:, ::-1], SQUARE, "flipped along axis 1"),
        (KERNEL[::-1, ::-1], KERNEL, "flipped along axes 0, 1"),
        (KERNEL.transpose(1, 0, 2, 3), KERNEL, "with axes 0 and 1 swapped"),
        (SQUARE[RNG.permutation(6)], SQUARE, "in another order along axis"),
        (RNG.permutation(SQUARE.ravel()).reshape(6, 6), SQUARE, "in another order"),
        (2 * SQUARE, SQUARE, "PyTorch's `kernel` is 0.5 times JAX's"),
        (SQUARE[:3], SQUARE, "has the shape (3, 6), PyTorch's is (6, 6)"),
        (SQUARE + 1 + SQUARE**2, SQUARE, "differs from PyTorch's in 36 of 36 values"),
    ],
)
def test_a_kernel_that_differs_is_explained(ours, theirs, words):
    assert words in explain_weights({"kernel": ours}, {"kernel": theirs}, {})


def test_few_values_that_differ_are_counted():
    changed = KERNEL.copy()
    changed[2, 1, 3, 0] += 1
    cause = explain_weights({"kernel": changed}, {"kernel": KERNEL}, {})
    assert "1 of the 180 values of `kernel` differs" in cause
    assert "at (2, 1, 3, 0)" in cause


def test_equal_weights_have_no_cause():
    assert explain_weights({"kernel": KERNEL}, {"kernel": KERNEL + 0}, {}) == ""
    assert explain_weights({"kernel": KERNEL}, {}, {}) == ""


def test_swapped_and_initial_leaves_are_named():
    norm = {"scale": BIAS, "bias": BIAS + 1}
    swapped = {"scale": BIAS + 1, "bias": BIAS}
    assert explain_weights(norm, swapped, {}) == "`scale` and `bias` are swapped."
    initial = explain_weights({"var": np.ones(5)}, {"var": BIAS}, {})
    assert initial == "`var` is 1 everywhere, as after initialization."


def test_weights_of_another_layer_are_named():
    others = {"far": {"kernel": KERNEL}, "near": {"kernel": SQUARE}}
    cause = explain_weights({"kernel": SQUARE}, {"kernel": SQUARE + 1}, others)
    assert cause == "Its weights (kernel) are the weights of PyTorch's `near`."


def test_nan_and_empty_weights_are_compared():
    broken = BIAS.copy()
    broken[1] = np.nan
    assert "1 of the 5 values" in explain_weights({"bias": broken}, {"bias": BIAS}, {})
    assert explain_weights({"bias": np.zeros(0)}, {"bias": np.zeros(0)}, {}) == ""
