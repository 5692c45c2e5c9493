"""Rows have the measured noise of both networks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aff_jax.parity.output_differences import compare_outputs
from aff_jax.parity.rows import ONLY_JAX, ONLY_TORCH, Output


def output(module, value, number=1, perturbed=None):
    array = np.float32(value)
    return Output(module, number, array, array if perturbed is None else np.float32(perturbed))


def compare(jax_outputs, torch_outputs, tolerance=None):
    names = [o.module for o in jax_outputs]
    known = {o.module for o in torch_outputs}
    return compare_outputs(jax_outputs, torch_outputs, names, known, tolerance)


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=5))
def test_equal_arrays_do_not_differ(values):
    (pair,) = compare([output("a", values)], [output("a", values)])
    assert not pair.row.differs
    assert pair.row.max_abs == 0


@pytest.mark.parametrize("side", [0, 1])
def test_nan_on_one_side_differs(side):
    sides = [[1.0, 2.0], [1.0, 2.0]]
    sides[side][0] = math.nan
    (pair,) = compare([output("a", sides[0])], [output("a", sides[1])])
    assert pair.row.differs


def test_equal_infinities_do_not_differ_and_arrays_without_axes_are_compared():
    (pair,) = compare([output("a", [math.inf, 1])], [output("a", [math.inf, 1])])
    assert not pair.row.differs
    (pair,) = compare([output("a", 2.0)], [output("a", 3.0)])
    assert (pair.row.shape, pair.row.max_rel) == ((), pytest.approx(1 / 3))


def test_the_larger_noise_of_the_two_networks_is_allowed():
    jax_output, torch_output = (
        output("a", [1.0], perturbed=[1.001]),
        output("a", [1.04], perturbed=[1.0401]),
    )
    (pair,) = compare([jax_output], [torch_output])
    assert pair.row.allowed == pytest.approx(50 * 0.001 / 1.04, rel=1e-3)
    assert not pair.row.differs
    (pair,) = compare([jax_output], [torch_output], tolerance=1e-3)
    assert pair.row.allowed == 1e-3
    assert pair.row.differs


def test_noise_never_falls_below_the_floor_of_the_dtype():
    (pair,) = compare([output("a", [1.0])], [output("a", [1.0])])
    assert pair.row.allowed == pytest.approx(64 * np.finfo(np.float32).eps)


def test_shapes_that_do_not_fit_are_noted():
    (pair,) = compare([output("a", [1, 2, 3])], [output("a", [1, 2])])
    assert pair.row.note == "PyTorch's shape is (2,)"
    assert pair.row.differs


def test_a_call_of_one_side_has_no_difference():
    pairs = compare([output("a", [1]), output("a", [2], 2)], [output("a", [1])])
    assert [(p.row.note, p.row.max_rel, p.torch_call) for p in pairs] == [
        ("", 0.0, 1),
        (ONLY_JAX, None, 0),
    ]
    assert pairs[1].torch_array is None
    pairs = compare([output("a", [1])], [output("a", [1]), output("a", [2], 2)])
    assert (pairs[1].row.note, pairs[1].torch_call) == (ONLY_TORCH, 2)
    assert pairs[1].jax_array is None
