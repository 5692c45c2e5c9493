"""Convolution and pooling against PyTorch's conventions in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.nn.convolution import ConvNorm
from aff_jax.nn.pooling import average_pool, global_average
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "strides", "size"), [(3, 1, 5), (3, 2, 5), (3, 2, 6), (1, 2, 5)]
)
def test_conv_norm_pads_the_same_on_both_sides(groups, kernel, strides, size):
    x = normal((2, size, size, 4))
    with jax.enable_x64(True):
        module = ConvNorm(6, kernel, strides, groups, jax.nn.relu, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        result = module.apply(variables, x)
    weight = variables["params"]["conv"]["kernel"]
    margin = kernel // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    out = -(-size // strides)
    convolved = np.zeros((2, out, out, 6))
    for row in range(out):
        for column in range(out):
            top, left = row * strides, column * strides
            window = padded[:, top : top + kernel, left : left + kernel]
            for group in range(groups):
                ins = window[..., group * 4 // groups : (group + 1) * 4 // groups]
                outs = slice(group * 6 // groups, (group + 1) * 6 // groups)
                convolved[:, row, column, outs] = np.tensordot(ins, weight[..., outs], 3)
    norm = variables["params"]["norm"], variables["batch_stats"]["norm"]
    expected = oracle.relu(oracle.batch_norm(convolved, *norm, train=False))
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


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
