"""Moments of a product against NumPy in float64, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from aff_jax.fast.projected_moments import mean_and_covariance, projected_moments
from aff_jax.nn.batch_norm import batch_moments


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("mean", [0, 1e3])
def test_equal_the_moments_of_the_product_in_numpy(mean):
    x, kernel = mean + normal((4, 9, 6)), normal((6, 15), 1)
    product = (x @ kernel).reshape(-1, 15)
    with jax.enable_x64(True):
        found = projected_moments(jnp.asarray(x), jnp.asarray(kernel))
    # Sums of 36 numbers of order 1, or 1e3: thirteen digits of the largest.
    np.testing.assert_allclose(found[0], product.mean(axis=0), rtol=1e-12, atol=1e-13 * (1 + mean))
    np.testing.assert_allclose(found[1], product.var(axis=0), rtol=1e-10)


def test_a_large_mean_costs_no_digits_in_float32():
    x, kernel = 1e3 + normal((512, 6)), normal((6, 15), 1)
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    exact = (x.astype(np.float64) @ kernel).var(axis=0)
    _, var = projected_moments(jnp.asarray(x), jnp.asarray(kernel))
    # x itself is rounded to 6e-5, and so is its mean; the naive E[x^2] - E[x]^2 is off by 10 %.
    np.testing.assert_allclose(var, exact, rtol=1e-5)


def test_the_gradient_of_a_covariance_takes_one_product():
    x, weights = normal((7, 5, 4)), normal((4, 4), 1)
    with jax.enable_x64(True):
        x = jnp.asarray(x)
        check_grads(mean_and_covariance, (x,), order=2, modes=("fwd", "rev"))
        gradient = jax.grad(lambda x: jnp.sum(weights * mean_and_covariance(x)[1]))
        centered = x - x.mean(axis=(0, 1))
        np.testing.assert_allclose(gradient(x), centered @ (weights + weights.T) / 35, rtol=1e-12)
        products = str(jax.make_jaxpr(gradient)(x)).count("dot_general[")
    assert products == 2  # one forward, one back


def test_a_saved_product_is_not_recomputed():
    policy = jax.checkpoint_policies.dots_saveable
    kept = jax.checkpoint(lambda x: mean_and_covariance(x)[1], policy=policy)
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(kept(x)) ** 2))
    assert str(jax.make_jaxpr(gradient)(normal((7, 4)))).count("dot_general[") == 2


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_has_the_covariance_of_float32(dtype):
    x = jnp.asarray(3 + normal((9, 7, 4)), dtype)
    weights = jnp.asarray(normal((4, 4), 1), jnp.float32)

    def loss(x):
        mean, covariance = mean_and_covariance(x)
        return jnp.sum(mean) + jnp.sum(weights * covariance)

    found, exact = mean_and_covariance(x), mean_and_covariance(x.astype(jnp.float32))
    assert all(value.dtype == jnp.float32 for value in found)
    # The squared mean is ten times the variance.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, exact)
    gradient, wide = jax.grad(loss)(x), jax.grad(loss)(x.astype(jnp.float32))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(
        np.float32(gradient), wide, rtol=4 * jnp.finfo(dtype).eps, atol=float(jnp.finfo(dtype).eps)
    )


def test_over_devices_equal_the_moments_of_the_global_batch():
    x, kernel = normal((4, 9, 6)), normal((6, 15), 1)
    with jax.enable_x64(True):
        whole = projected_moments(jnp.asarray(x), jnp.asarray(kernel))
        mapped = jax.pmap(
            projected_moments, "batch", in_axes=(0, None), static_broadcasted_argnums=2
        )
        parts = mapped(jnp.asarray(x), jnp.asarray(kernel), "batch")
        plain = jax.pmap(lambda x: batch_moments(x @ kernel, "batch"), "batch")(jnp.asarray(x))
    for whole_value, part, direct in zip(whole, parts, plain, strict=True):
        np.testing.assert_allclose(
            part, np.broadcast_to(whole_value, part.shape), rtol=1e-12, atol=1e-14
        )
        np.testing.assert_allclose(part, direct, rtol=1e-11, atol=1e-14)


def test_a_constant_channel_has_no_variance():
    x, kernel = np.ones((64, 3), np.float32), normal((3, 6), 1).astype(np.float32)
    _, var = projected_moments(jnp.asarray(x), jnp.asarray(kernel))
    np.testing.assert_array_equal(var, 0)
