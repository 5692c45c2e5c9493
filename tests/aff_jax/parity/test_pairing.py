"""Calls of two networks are paired by name, and rows have the measured noise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aff_jax.parity.pairing import compare_outputs
from aff_jax.parity.recording.recorder import Call
from aff_jax.parity.rows import (
    ONLY_FLAX,
    ONLY_TORCH,
    Output,
    Row,
    list_outputs,
)


def output(module, value, number=1, perturbed=None):
    array = np.float32(value)
    return Output(module, number, array, array if perturbed is None else np.float32(perturbed))


def compare(ours, theirs, tolerance=None, names=None):
    """Compare outputs. `names` maps linen modules to those of PyTorch."""
    known = names or {}
    everything = {o.module for o in theirs}
    our_names = [known.get(output.module, output.module) for output in ours]
    return compare_outputs(ours, theirs, our_names, everything, tolerance)


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
    ours, theirs = output("a", [1.0], perturbed=[1.001]), output("a", [1.04], perturbed=[1.0401])
    (pair,) = compare([ours], [theirs])
    assert pair.row.allowed == pytest.approx(50 * 0.001 / 1.04, rel=1e-3)
    assert not pair.row.differs
    (pair,) = compare([ours], [theirs], tolerance=1e-3)
    assert pair.row.allowed == 1e-3
    assert pair.row.differs


def test_noise_never_falls_below_the_floor_of_the_dtype():
    (pair,) = compare([output("a", [1.0])], [output("a", [1.0])])
    assert pair.row.allowed == pytest.approx(64 * np.finfo(np.float32).eps)


def test_shapes_that_do_not_fit_are_noted():
    (pair,) = compare([output("a", [1, 2, 3])], [output("a", [1, 2])])
    assert pair.row.note == "PyTorch's shape is (2,)"
    assert pair.row.differs


def test_a_call_of_one_side_is_inserted_where_it_happened():
    ours = [output("a", [1]), output("b", [2]), output("a", [3], 2)]
    pairs = compare(ours, [output("a", [1]), output("b", [2])])
    assert [pair.row.note for pair in pairs] == ["", "", ONLY_FLAX]
    pairs = compare(ours[:2], [output("a", [1]), output("a", [9], 2), output("b", [2])])
    assert [(pair.row.name, pair.row.note) for pair in pairs] == [
        ("a", ""),
        ("a", ONLY_TORCH),
        ("b", ""),
    ]


def test_the_missing_call_is_the_one_that_fits_least():
    ours = [output("a", [1]), output("a", [3], 2)]
    theirs = [output("a", [1]), output("a", [2], 2), output("a", [3], 3)]
    pairs = compare(ours, theirs)
    assert [pair.row.note for pair in pairs] == ["", ONLY_TORCH, ""]
    assert [pair.torch_call for pair in pairs] == [1, 2, 3]


def test_the_innermost_of_nested_modules_with_one_name_is_compared():
    names = {"block": "conv", "block/conv": "conv"}
    pairs = compare(
        [output("block/conv", [1]), output("block", [5])], [output("conv", [1])], names=names
    )
    assert [pair.row.path for pair in pairs] == ["block/conv"]


def test_two_modules_with_one_name_are_its_first_and_second_call():
    names = {"first": "layer", "again": "layer"}
    theirs = [output("layer", [1]), output("layer", [2], 2)]
    pairs = compare([output("first", [1]), output("again", [2])], theirs, names=names)
    assert [(pair.row.path, pair.torch_call) for pair in pairs] == [("first", 1), ("again", 2)]
    assert not any(pair.row.differs for pair in pairs)


def test_each_array_of_a_call_is_an_output():
    one, two = np.float32([1]), np.float32([2, 3])
    calls = [Call("a", 1, (one, two)), Call("b", 1, (one,)), Call("c", 1, ())]
    outputs = list_outputs(calls, [Call("a", 1, (one, two + 1)), Call("other", 1, (one,))])
    assert [o.module for o in outputs] == ["a[0]", "a[1]", "b"]
    # The perturbed run made another call than b: its noise is not known.
    assert [o.noise for o in outputs] == [0, 1, 0]


def test_a_row_without_a_number_differs():
    assert Row("a", "a", 1, (2,)).differs
    assert not Row("a", "a", 1, (2,), max_rel=0.0).differs
