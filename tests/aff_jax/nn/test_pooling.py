"""Pooling against PyTorch's conventions in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.nn.pooling import average_pool, global_average, max_pool


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 5), (7, 2), (1, 3)])
def test_average_pool_rounds_up_and_does_not_count_padding(height, width):
    x = np.float32(normal((2, height, width, 3)))
    expected = [
        [x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, width, 2)]
        for i in range(0, height, 2)
    ]
    expected = np.moveaxis(np.asarray(expected), 2, 0)
    np.testing.assert_allclose(average_pool(x, 2), expected, rtol=1e-6, atol=1e-6)
    assert average_pool(x, 1) is x
    assert average_pool(jnp.asarray(x, jnp.bfloat16), 2).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3), (2, 4, 5, 3), (2, 4, 5, 6, 3)])
def test_global_average_keeps_axes(shape):
    x = np.float32(normal(shape))
    expected = x.reshape(2, -1, 3).mean(1).reshape(2, *[1] * (len(shape) - 2), 3)
    np.testing.assert_allclose(global_average(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3), (1, 2), (1, 1)])
def test_max_pool_pads_with_values_that_never_win(height, width):
    x = np.float32(normal((2, height, width, 3))) - 10
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    expected = [
        [padded[:, i : i + 3, j : j + 3].max((1, 2)) for j in range(0, width, 2)]
        for i in range(0, height, 2)
    ]
    np.testing.assert_array_equal(max_pool(x), np.moveaxis(np.asarray(expected), 2, 0))
