"""Dtypes, flags, layouts and perturbations of inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aff_jax.parity.recording.inputs import (
    as_dtype,
    has_floats,
    list_torch_inputs,
    perturb,
    with_evaluation_flags,
)
from aff_jax.parity.recording.recorder import Inputs

TOKENS, IMAGE = np.zeros((2, 3, 4)), np.zeros((2, 5, 6, 3))


def test_floats_get_the_dtype_and_the_rest_stays():
    tree = {"x": [jnp.bfloat16(1.5), np.float64(2)], "flag": True, "n": np.int8(3), "none": None}
    converted = as_dtype(tree, "float32")
    assert [x.dtype for x in converted["x"]] == [np.float32, np.float32]
    assert converted["flag"] is True
    assert converted["n"].dtype == np.int8
    assert converted["none"] is None
    key = jax.random.key(0)
    assert as_dtype(key, "float64") is key


def test_has_floats():
    assert has_floats({"x": [1, np.float32(2)]})
    assert not has_floats([1.5, True, np.arange(3), None])


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64]),
        arrays.array_shapes(min_dims=0, max_dims=2, min_side=0),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_every_number_changes_by_one_unit_in_the_last_place(x):
    perturbed = perturb(x)
    assert perturbed.dtype == x.dtype
    assert perturbed.shape == x.shape
    assert np.all(perturbed != x)
    infinity = np.asarray(np.inf, x.dtype)
    assert np.all(
        (np.nextafter(x, infinity) == perturbed) | (np.nextafter(x, -infinity) == perturbed)
    )


def test_nan_and_integers_do_not_change():
    assert np.isnan(perturb(np.float32([np.nan]))).all()
    np.testing.assert_array_equal(perturb(np.arange(3)), np.arange(3))


class Flags(nn.Module):
    def __call__(self, x, train, deterministic=True, *, inference):
        return x


def test_only_flags_without_a_default_are_added():
    flags = with_evaluation_flags(Flags(), Inputs((1,), {}))
    assert flags == Inputs((1,), {"train": False, "inference": True})
    given_flags = with_evaluation_flags(Flags(), Inputs((1, True), {"inference": False}))
    assert given_flags == Inputs((1, True), {"inference": False})
    wrong = Inputs((), {"unknown": 1})
    assert with_evaluation_flags(Flags(), wrong) is wrong


def shapes(inputs, layout=None, has_sequences=False):
    return [text for text, _ in list_torch_inputs(Inputs(inputs, {}), layout, has_sequences)]


def test_the_most_likely_layouts_come_first():
    assert shapes((IMAGE,)) == ["(2, 3, 5, 6)", "(2, 5, 6, 3)"]
    assert shapes((TOKENS,)) == ["(2, 3, 4)", "(2, 4, 3)", "(3, 2, 4)"]
    assert shapes((TOKENS,), has_sequences=True) == ["(2, 4, 3)", "(2, 3, 4)", "(3, 2, 4)"]
    assert shapes((np.zeros((2, 3)), True, None)) == ["(2, 3)"]
    assert len(shapes((IMAGE, TOKENS))) == 6


def test_many_arrays_share_a_layout():
    assert len(shapes((IMAGE,) * 5)) == 2
    assert len(shapes((IMAGE,) * 3 + (TOKENS,) * 2)) == 6


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("channels_first", "(2, 3, 5, 6), (2, 4, 3)"),
        ("same", "(2, 5, 6, 3), (2, 3, 4)"),
        ("sequence_first", "(5, 2, 6, 3), (3, 2, 4)"),
    ],
)
def test_a_given_layout_holds_for_all_arrays(layout, expected):
    assert shapes((IMAGE, TOKENS), layout) == [expected]


def test_an_unknown_layout_is_an_error():
    with pytest.raises(ValueError, match=r"unknown layout 'channel_first'\. Did you mean"):
        shapes((IMAGE,), "channel_first")
