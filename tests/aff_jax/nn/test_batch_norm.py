"""BatchNorm against PyTorch's conventions in NumPy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.nn.batch_norm import BatchNorm
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables


def normal(shape):
    return np.random.default_rng(0).standard_normal(shape)


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
    # float32 over 48 values.
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


def test_refuses_integers():
    with pytest.raises(TypeError, match="BatchNorm: expected floating-point x, got int32"):
        BatchNorm().init(jax.random.key(0), jnp.ones((2, 3), jnp.int32))


def test_counts_devices_before_it_refuses_one_value():
    module = BatchNorm(axis_name="batch")
    variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
    apply = functools.partial(module.apply, variables, train=True, mutable=["batch_stats"])
    jax.pmap(apply, axis_name="batch")(jnp.ones((2, 1, 3)))
    with pytest.raises(ValueError, match=r"more than one value per channel .* shape \(1, 3\)"):
        jax.pmap(apply, axis_name="batch")(jnp.ones((1, 1, 3)))


def test_refuses_an_empty_batch_in_training():
    module = BatchNorm()
    variables = module.init(jax.random.key(0), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"got an empty input of shape \(0, 3\)"):
        module.apply(variables, jnp.ones((0, 3)), True, mutable=["batch_stats"])
    assert module.apply(variables, jnp.ones((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("use_scale", [False, True])
def test_refuses_another_number_of_channels(train, use_scale):
    module = BatchNorm(use_scale=use_scale, use_bias=False)
    variables = module.init(jax.random.key(0), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"expected 3 channels.*shape \(2, 1\).*jnp\.repeat"):
        module.apply(variables, jnp.ones((2, 1)), train, mutable=["batch_stats"])
