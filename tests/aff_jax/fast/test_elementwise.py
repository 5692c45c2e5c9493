"""The elementwise shortcuts against NumPy, and the gradient of the sigmoid at large logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.fast.elementwise import explicit_sigmoid, gain_inside_sum


def test_the_sigmoid_and_its_gradient_are_those_of_the_logistic_function():
    logits = np.linspace(-30, 30, 61)
    with jax.enable_x64(True):
        value, gradient = jax.vmap(jax.value_and_grad(explicit_sigmoid))(jnp.asarray(logits))
    s = 1 / (1 + np.exp(-logits))
    # Both sides are float64.
    np.testing.assert_allclose(value, s, rtol=1e-14)
    np.testing.assert_allclose(gradient, s / (1 + np.exp(logits)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("logit", "expected"), [(-1000.0, 0.0), (1000.0, 1.0)])
def test_the_sigmoid_saturates_without_nan(logit, expected):
    """Differentiating the expression itself would divide infinity by infinity."""
    value, gradient = jax.value_and_grad(explicit_sigmoid)(jnp.float32(logit))
    assert (value, gradient) == (expected, 0)


@pytest.mark.parametrize("weights_shape", [(2, 3, 3, 4), (2, 1, 1, 4)])
def test_the_gain_inside_the_sum_gives_the_weighted_sum(weights_shape):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 2, 3, 3, 4))
    M = rng.uniform(size=weights_shape)
    # NumPy arrays stay float64 in elementwise operations.
    np.testing.assert_allclose(
        gain_inside_sum(x, y, M, 2.0), 2 * (x * M + y * (1 - M)), rtol=1e-12, atol=1e-14
    )
