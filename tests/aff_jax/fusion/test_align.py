"""The formula, the gradients and the errors of Align."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, Align
from tests.aff_jax.random_variables import random_variables


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def resized(x, axis, size):
    """Interpolate linearly along one axis with half-pixel centers and repeated edges."""
    at = np.clip((np.arange(size) + 0.5) * x.shape[axis] / size - 0.5, 0, x.shape[axis] - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    part = (at - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part


@pytest.mark.parametrize(
    ("x_shape", "y_shape"),
    [
        ((2, 6), (2, 3)),
        ((2, 3, 6), (2, 7, 4)),
        ((2, 3, 4, 6), (2, 5, 8, 4)),
        ((2, 1, 1, 6), (2, 7, 33, 6)),
        ((1, 2, 3, 2, 4), (1, 4, 5, 3, 6)),
    ],
)
def test_equals_the_formula_in_numpy(x_shape, y_shape):
    x, y = normal(x_shape), normal(y_shape, seed=1)
    module = Align(param_dtype=jnp.float64)
    with jax.enable_x64(True):
        variables = random_variables(module, x, y)
        result = jax.jit(module.apply)(variables, x, y)
    expected = x
    if x_shape[-1] != y_shape[-1]:
        expected = x @ variables["params"]["project"]["kernel"]
    for axis in range(1, x.ndim - 1):
        expected = resized(expected, axis, y_shape[axis])
    chex.assert_shape(result, y_shape)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)  # float64


def test_shrinking_reads_every_value():
    gradient = jax.grad(lambda x: Align().apply({}, x, jnp.ones((1, 2, 3))).sum())
    assert (gradient(jnp.ones((1, 9, 3))) > 0.01).all()


def test_an_input_of_the_right_shape_is_returned_unchanged():
    x = normal((2, 3, 4, 6))
    assert Align().apply({}, x, x + 1) is x


def test_its_kernel_has_a_gradient():
    x, y = np.float32(normal((2, 3, 3, 6))), np.float32(normal((2, 5, 6, 4)))
    variables = random_variables(Align(), x, y, dtype=np.float32)
    gradient = jax.grad(lambda v: jnp.sin(Align().apply(v, x, y)).sum())(variables)
    (leaf,) = jax.tree.leaves(gradient)
    assert np.isfinite(leaf).all()
    assert (np.abs(leaf) > 1e-6).all()


def test_aligns_inputs_that_a_fusion_refuses():
    x, y = jnp.ones((2, 3, 3, 8)), jnp.ones((2, 6, 5, 4))
    with pytest.raises(ValueError, match=r"expected x and y of the same shape.*aff_jax.Align"):
        AFF().init(jax.random.key(0), x, y)
    aligned, _ = Align().init_with_output(jax.random.key(0), x, y)
    AFF().init(jax.random.key(0), aligned, y)


def test_computes_in_the_dtype_of_its_inputs_or_its_own():
    x, y = jnp.ones((2, 3, 3, 8), jnp.bfloat16), jnp.ones((2, 6, 5, 4), jnp.bfloat16)
    aligned, _ = Align(dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x, y)
    assert aligned.dtype == jnp.bfloat16
    aligned, _ = Align().init_with_output(jax.random.key(0), x, y)
    assert aligned.dtype == jnp.float32  # the dtype of its parameters


@pytest.mark.parametrize("shape", [(3, 4, 4, 8), (2, 4, 8)])
def test_refuses_another_batch_or_number_of_axes(shape):
    with pytest.raises(
        ValueError, match="expected x and y with the same batch size and number of axes"
    ):
        Align().init(jax.random.key(0), jnp.ones((2, 4, 4, 8)), jnp.ones(shape))


def test_refuses_integers():
    with pytest.raises(TypeError, match="Align: expected floating-point x"):
        Align().init(jax.random.key(0), jnp.ones((2, 8), int), jnp.ones((2, 8)))
