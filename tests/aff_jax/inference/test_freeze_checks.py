"""Checks of the arguments of `freeze`."""

import jax
import jax.numpy as jnp
import pytest

from aff_jax import AFF
from aff_jax.differences import DifferentArraysError
from aff_jax.inference.freeze_checks import (
    check_batch_axes,
    check_variables,
    find_donated_input,
)

A = jax.ShapeDtypeStruct((4, 3), jnp.float32)


def test_variables_are_compared_by_name_and_shape():
    expected = {"params": {"a": A, "b": A}}
    check_variables(AFF(), expected, {"params": {"a": A, "b": A}, "cache": {"c": A}})
    with pytest.raises(DifferentArraysError, match=r"this AFF: 1 missing, 1 misshapen\.") as error:
        check_variables(AFF(), expected, {"params": {"a": jnp.zeros(3)}})
    assert len(error.value.differences) == 2
    assert "missing     params/b (4, 3)" in str(error.value)
    assert "misshapen   params/a: (3,), expected (4, 3)" in str(error.value)


@pytest.mark.parametrize(
    ("apply", "shapes"),
    [
        (lambda _, x, y: jnp.sum(x), "-> \\[\\(\\)\\]"),  # a result without axes
        (lambda _, x, y: (x, x.T), "-> \\[\\(4, 3\\), \\(3, 4\\)\\]"),
    ],
)
def test_a_result_without_the_batch_axis_is_refused(apply, shapes):
    check_batch_axes(lambda _, x, y: (x, y[:, 0]), {}, (A, A))
    with pytest.raises(ValueError, match=f"batch as their first axis, got shapes .*{shapes}"):
        check_batch_axes(apply, {}, (A, A))


def test_inputs_with_different_first_axes_are_refused():
    with pytest.raises(ValueError, match="batch as their first axis"):
        check_batch_axes(lambda _, x, y: x, {}, (A, jax.ShapeDtypeStruct((2, 3), jnp.float32)))


def test_the_first_input_with_the_shape_and_dtype_of_the_result_is_donated():
    half = jax.ShapeDtypeStruct(A.shape, jnp.bfloat16)
    assert find_donated_input(lambda _, x, y: x + y, {}, (half, A)) == 1
    assert find_donated_input(lambda _, x, y: x + y, {}, (A, A)) == 0


@pytest.mark.parametrize("apply", [lambda _, x: x[:, :1], lambda _, x: (x, x)])
def test_without_such_an_input_nothing_is_donated(apply):
    with pytest.raises(
        ValueError, match=r"donate: expected an input .* result.*float32\[4, [13]\]"
    ):
        find_donated_input(apply, {}, (A,))
