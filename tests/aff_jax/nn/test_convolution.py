"""Convolutions against PyTorch's conventions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.nn.convolution import ConvNorm, make_conv
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


@pytest.mark.parametrize("strides", [1, 2])
def test_a_dilated_convolution_has_the_padding_of_a_kernel_of_its_span(strides):
    x = normal((2, 5, 6, 4))
    with jax.enable_x64(True):
        dilated = make_conv(3, kernel_size=3, strides=strides, dilation=2, param_dtype=jnp.float64)
        kernel = random_variables(dilated, x)["params"]["kernel"]
        # The same kernel with zeros between its values.
        wide = np.zeros((5, 5, 4, 3))
        wide[::2, ::2] = kernel
        result = dilated.apply({"params": {"kernel": kernel}}, x)
        spread = make_conv(3, kernel_size=5, strides=strides, param_dtype=jnp.float64)
        expected = spread.apply({"params": {"kernel": wide}}, x)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
