"""Differences and factors of arrays."""

import numpy as np
import pytest

from aff_jax.parity.array_differences import best_factor, is_allowed, largest_difference


def test_equal_infinities_do_not_differ_and_nan_does():
    inf = np.array([np.inf, 1.0])
    assert largest_difference(inf, inf + np.array([0, 2])) == 2
    assert np.isnan(largest_difference(np.array([np.nan]), np.array([np.nan])))
    assert largest_difference(np.array([1 + 1j]), np.array([1 - 1j])) == 2
    assert largest_difference(np.zeros(0), np.zeros(0)) == 0


def test_the_best_factor_is_that_of_least_squares():
    a = np.array([1.0, 2.0, 3.0])
    assert best_factor(a, -2 * a) == pytest.approx(-2)
    assert best_factor(a, a + np.array([2, -1, 0])) == pytest.approx(1)
    assert best_factor(0 * a, a) == 0


@pytest.mark.parametrize(("allowed", "expected"), [(0.09, False), (0.11, True)])
def test_the_allowed_difference_is_relative_to_the_largest_value(allowed, expected):
    assert is_allowed(np.array([1.0, 5.0]), np.array([2.0, -10.0]) * [1, -0.5], 0) is False
    assert is_allowed(np.array([0.0, 10.0]), np.array([1.0, 10.0]), allowed) is expected
