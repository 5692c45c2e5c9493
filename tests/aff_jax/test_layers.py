"""Batch norm, convolution and pooling against PyTorch's conventions in plain NumPy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.layers import BatchNorm, ConvNorm, average_pool, check_images, global_average
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("unbiased", [False, True])
def test_running_variance_is_biased_or_not(unbiased):
    x = normal((3, 4, 5))
    with jax.enable_x64(True):
        module = BatchNorm(unbiased_variance=unbiased, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        stats = jax.tree.map(np.copy, variables["batch_stats"])
        expected = oracle.batch_norm(x, variables["params"], stats, True, unbiased)
        result, new = module.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    chex.assert_trees_all_close(dict(new["batch_stats"]), stats, rtol=1e-12)


@pytest.mark.parametrize("unbiased", [False, True])
def test_statistics_over_devices_are_those_of_the_global_batch(unbiased):
    x = np.float32(normal((8, 2, 3, 5)))
    module = BatchNorm(unbiased_variance=unbiased, axis_name="batch")
    variables = random_variables(module, x[0], dtype=np.float32)
    step = jax.pmap(lambda x: module.apply(variables, x, True, mutable=True), axis_name="batch")
    result, new = step(x)
    stats = jax.tree.map(np.float64, variables["batch_stats"])
    whole = np.float64(x.reshape(16, 3, 5))
    expected = oracle.batch_norm(whole, variables["params"], stats, True, unbiased)
    # Single precision over 48 values.
    np.testing.assert_allclose(result.reshape(16, 3, 5), expected, rtol=1e-5, atol=1e-5)
    for device in range(8):
        mine = jax.tree.map(lambda leaf, d=device: leaf[d], dict(new["batch_stats"]))
        chex.assert_trees_all_close(mine, stats, rtol=1e-5, atol=1e-6)


def test_variance_survives_a_large_mean():
    """The mean of squares minus the square of the mean would be off by a half here."""
    x = np.float32(normal((4096, 1)) + 4096)
    result, _ = BatchNorm().init_with_output(jax.random.key(0), x, True)
    np.testing.assert_allclose(np.std(result), 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (jnp.float32, None, jnp.float32),
        (jnp.bfloat16, None, jnp.float32),
        (jnp.float32, jnp.bfloat16, jnp.bfloat16),
        (jnp.float64, None, jnp.float64),
    ],
)
def test_dtype_of_the_result(given, dtype, expected):
    with jax.enable_x64(True):
        x = jnp.asarray(normal((4, 3)), given)
        result, variables = BatchNorm(dtype=dtype).init_with_output(jax.random.key(0), x, True)
    assert result.dtype == expected
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_without_scale_and_bias_there_are_no_parameters():
    module = BatchNorm(use_scale=False, use_bias=False)
    assert set(module.init(jax.random.key(0), jnp.ones((2, 3)))) == {"batch_stats"}


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


def test_batch_norm_refuses_integers():
    with pytest.raises(TypeError, match="BatchNorm: expected floating-point x, got int32"):
        BatchNorm().init(jax.random.key(0), jnp.ones((2, 3), jnp.int32))


def test_batch_norm_counts_devices_before_it_refuses_one_value():
    module = BatchNorm(axis_name="batch")
    variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
    apply = functools.partial(module.apply, variables, train=True, mutable=["batch_stats"])
    jax.pmap(apply, axis_name="batch")(jnp.ones((2, 1, 3)))
    with pytest.raises(ValueError, match=r"more than one value per channel .* shape \(1, 3\)"):
        jax.pmap(apply, axis_name="batch")(jnp.ones((1, 1, 3)))


def test_check_images_refuses_what_is_not_a_batch_of_images():
    with pytest.raises(ValueError, match=r"\(batch, height, width, channels\), got \(8, 8, 3\)"):
        check_images(BatchNorm(), jnp.ones((8, 8, 3)))
