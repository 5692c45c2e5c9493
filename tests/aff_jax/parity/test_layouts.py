"""Arrays of PyTorch are brought to the layout of the other array, whatever it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aff_jax.parity.array_differences import largest_difference
from aff_jax.parity.layouts import align, channels_first, list_layouts

INVERSE = {
    "same": lambda x: x,
    "channels first": lambda x: np.moveaxis(x, -1, 1),
    "sequence first": lambda x: np.swapaxes(x, 0, 1),
    "channels last": lambda x: np.moveaxis(x, 1, -1),
}


@given(
    shape=arrays.array_shapes(min_dims=3, max_dims=5, min_side=1, max_side=4),
    layout=st.sampled_from(sorted(INVERSE)),
)
def test_each_layout_is_undone(shape, layout):
    ours = np.random.default_rng(0).standard_normal(shape)
    aligned = align(INVERSE[layout](ours), ours)
    np.testing.assert_array_equal(aligned.array, ours)


@given(st.integers(0, 5), st.sampled_from([np.float32, np.int64]))
def test_arrays_of_any_number_of_axes_are_aligned_with_themselves(axes, dtype):
    ours = np.ones((2,) * axes, dtype)
    assert align(ours, ours).layout == "same"


def test_empty_arrays_have_no_reshaped_layout():
    empty = np.zeros((2, 0, 3))
    assert align(empty, empty).layout == "same"
    assert align(empty, np.zeros((2, 0, 4))) is None
    assert align(empty, np.zeros(())) is None


def test_merged_axes_are_split_again():
    heads = np.arange(48.0).reshape(2, 3, 8)
    aligned = align(heads, heads.reshape(2, 3, 2, 4))
    assert aligned.layout == "same, reshaped"
    np.testing.assert_array_equal(aligned.array, heads.reshape(2, 3, 2, 4))
    pooled = np.ones((2, 8, 1, 1))
    assert align(pooled, np.ones((2, 8))).layout == "same, reshaped"


def test_repeated_batches_are_halved_only_if_the_copies_are_equal():
    one = np.arange(6.0).reshape(1, 6)
    assert align(np.concatenate([one, one]), one).layout == "same, repeated"
    assert align(np.concatenate([one, one + 1]), one) is None


def test_nan_does_not_decide_for_a_layout():
    ours = np.arange(27.0).reshape(3, 3, 3)
    theirs = np.moveaxis(ours, -1, 1).copy()
    theirs[0, 0, 0] = np.nan
    aligned = align(theirs, ours)
    assert aligned.array.shape == ours.shape
    assert np.isnan(largest_difference(aligned.array, ours))


def test_layouts_of_two_axes_are_not_transposed():
    assert list(list_layouts(np.ones((2, 3)), (3, 2))) == []
    assert channels_first(np.ones((2, 3))).shape == (2, 3)
    assert channels_first(np.ones((2, 4, 5, 3))).shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([np.inf, 1.0], [np.inf, 3.0], 2.0),
        ([np.inf], [-np.inf], np.inf),
        ([np.inf], [1.0], np.inf),
        ([np.nan], [np.nan], np.nan),
        ([1.0], [np.nan], np.nan),
        ([], [], 0.0),
        (2.0, -1.0, 3.0),
        ([True], [False], 1.0),
    ],
)
def test_largest_difference(a, b, expected):
    found = largest_difference(np.array(a), np.array(b))
    np.testing.assert_array_equal(found, expected)
