"""Moments of a product, against NumPy in float64 on the product itself, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from aff_jax import MSCAM, BatchNorm
from aff_jax.fast.derived_statistics import batch_moments, derivation_pays, gram, projected_moments
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("mean", [0, 1e3])
def test_moments_of_a_product_are_those_that_numpy_finds(mean):
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


def test_the_gradient_of_a_gram_matrix_takes_one_product():
    x, weights = normal((7, 4)), normal((4, 4), 1)
    with jax.enable_x64(True):
        x = jnp.asarray(x)
        check_grads(gram, (x,), order=2, modes=("fwd", "rev"))
        gradient = jax.grad(lambda x: jnp.sum(weights * gram(x)))
        np.testing.assert_allclose(gradient(x), x @ (weights + weights.T), rtol=1e-12)
        products = str(jax.make_jaxpr(gradient)(x)).count("dot_general[")
    assert products == 2  # one forward, one back


def test_a_gram_matrix_that_is_kept_is_not_computed_again():
    kept = jax.checkpoint(gram, policy=jax.checkpoint_policies.dots_saveable)
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(kept(x)) ** 2))
    assert str(jax.make_jaxpr(gradient)(normal((7, 4)))).count("dot_general[") == 2


def test_moments_over_devices_are_those_of_the_global_batch():
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


def test_a_channel_that_does_not_vary_has_no_variance():
    x, kernel = np.ones((64, 3), np.float32), normal((3, 6), 1).astype(np.float32)
    _, var = projected_moments(jnp.asarray(x), jnp.asarray(kernel))
    np.testing.assert_array_equal(var, 0)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("unbiased", [True, False])
def test_batch_norm_of_a_projection_equals_that_of_the_product(unbiased, use_bias):
    """Values, statistics and gradients, where the product is not formed and where it is."""
    x, d = normal((8, 5, 5, 3)), normal((8, 5, 5, 12), 2)
    projection = (normal((3, 12), 1), normal(12, 3))
    assert derivation_pays(x.shape, 12)
    with jax.enable_x64(True):
        norm = BatchNorm(unbiased_variance=unbiased, use_bias=use_bias, param_dtype=jnp.float64)
        variables = random_variables(norm, d)

        def pulled(split):
            def apply(params, x, projection):
                given = (
                    (x, True, projection) if split else (x @ projection[0] + projection[1], True)
                )
                variables_ = {**variables, "params": params}
                return norm.apply(variables_, *given, mutable=["batch_stats"])

            y, pull, new = jax.vjp(apply, variables["params"], x, projection, has_aux=True)
            return y, new, pull(d)

        derived, formed = pulled(True), pulled(False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11), derived, formed
    )


def test_a_projection_in_evaluation_uses_the_running_statistics():
    x, projection = normal((2, 3, 3)), (normal((3, 12), 1), normal(12, 3))
    with jax.enable_x64(True):
        norm = BatchNorm(param_dtype=jnp.float64)
        product = x @ projection[0] + projection[1]
        variables = random_variables(norm, product)
        found = norm.apply(variables, x, False, projection)
        np.testing.assert_allclose(found, norm.apply(variables, product), rtol=1e-12, atol=1e-12)


def test_attention_with_derived_moments_equals_the_formula():
    x = normal((4, 6, 6, 16))
    with jax.enable_x64(True):
        module = MSCAM(reduction=4, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        assert derivation_pays((*x.shape[:-1], 4), 16)
        stats = jax.tree.map(np.copy, variables["batch_stats"])
        expected = oracle.ms_cam(x, variables["params"], stats, train=True)
        result, new = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), dict(new["batch_stats"]), stats
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_single_precision_statistics(dtype):
    x = normal((4, 6, 6, 16)).astype(np.float32)
    module, exact = MSCAM(dtype=dtype), MSCAM()
    variables = random_variables(module, x, dtype=np.float32)
    result, new = module.apply(variables, x, train=True, mutable=["batch_stats"])
    expected, kept = exact.apply(variables, x, train=True, mutable=["batch_stats"])
    assert result.dtype == dtype
    digits = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float32(result), expected, atol=16 * digits, rtol=16 * digits)
    for value, other in zip(jax.tree.leaves(new), jax.tree.leaves(kept), strict=True):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, other, atol=4 * digits, rtol=4 * digits)


@pytest.mark.parametrize(
    ("shape", "channels", "pays"),
    [
        ((32, 32, 32, 16), 64, True),
        ((8, 56, 56, 64), 256, True),
        ((64, 56, 56, 128), 512, False),  # more inputs than were measured
        ((1, 8, 8, 64), 256, False),  # as many inputs as rows
        ((32, 1, 1, 64), 256, False),  # a pooled branch
        ((32, 32, 32, 64), 64, False),  # no narrower than the product
    ],
)
def test_derivation_pays_where_the_product_is_wide_and_long(shape, channels, pays):
    assert derivation_pays(shape, channels) == pays
