"""Counts of FLOPs against formulas, and against XLA for convolutions."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from train.plan.flops import count_product_flops


def flops(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return count_product_flops(jax.make_jaxpr(function)(*arguments))


def test_a_product_has_two_flops_per_multiply_add():
    assert flops(lambda x, y: jnp.tanh(x @ y), (8, 16), (16, 4)) == 2 * 8 * 16 * 4


def test_a_scan_counts_as_often_as_it_runs():
    def repeated(x):
        return lax.scan(lambda c, _: (c @ c, None), x, None, length=5)[0]

    assert flops(repeated, (4, 4)) == 5 * 2 * 4**3


def test_of_a_condition_the_most_expensive_branch_counts():
    def chosen(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x @ x @ x, x)

    assert flops(chosen, (4, 4)) == 2 * 2 * 4**3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_and_their_gradients_count_as_xla_counts_them(stride, groups):
    def convolve(x, w):
        return lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            "SAME",
            feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def gradients(x, w):
        y, gradient = jax.vjp(convolve, x, w)
        return gradient(y)

    for function in (convolve, gradients):
        shapes = (2, 9, 8, 4), (3, 3, 4 // groups, 6)
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        cost = jax.jit(function).lower(*arguments).cost_analysis()
        assert flops(function, *shapes) == pytest.approx(cost["flops"], rel=0.05)
