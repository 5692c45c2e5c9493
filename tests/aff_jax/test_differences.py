"""Lists of arrays that differ."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.differences import (
    _MAX_LINES,
    DifferentArraysError,
    count_differences,
    list_differences,
    shorten_differences,
)


def test_equal_sets_of_arrays_give_no_lines():
    assert list_differences({}, {}) == []
    assert list_differences({"a": (2, 3), "b": ()}, {"b": (), "a": (2, 3)}) == []


def test_lists_missing_then_unexpected_then_misshapen_arrays():
    expected = {"stem.weight": (8, 3), "stem.bias": (8,), "head.bias": (5,), "norm.mean": ()}
    found = {"head.bias": (10,), "stem.wieght": (8, 3), "norm.mean": (), "step": ()}
    found["stem.bias"] = (8,)
    assert list_differences(expected, found) == [
        "  missing     stem.weight (8, 3)   (nearest: stem.wieght)",
        "  unexpected  stem.wieght (8, 3)   (nearest: stem.weight)",
        "  unexpected  step ()",
        "  misshapen   head.bias: (10,), expected (5,)",
    ]


def test_compares_dtypes_where_both_sides_have_one():
    expected = {
        "a": jax.ShapeDtypeStruct((2,), jnp.bfloat16),
        "b": jax.ShapeDtypeStruct((2,), np.float32),
        "c": jax.ShapeDtypeStruct((3,), np.int32),
        "d": (2,),
    }
    found = {name: np.zeros(2, np.float32) for name in expected}
    assert list_differences(expected, found) == [
        "  wrong dtype a: (2,) float32, expected (2,) bfloat16",
        "  misshapen   c: (2,) float32, expected (3,) int32",
    ]


def test_searches_the_nearest_name_of_the_first_arrays_only():
    expected = {f"layer{index}.weight": () for index in range(_MAX_LINES + 5)}
    found = {f"layer{index}.wieght": () for index in range(_MAX_LINES + 5)}
    lines = list_differences(expected, found)
    assert len(lines) == 2 * len(expected)
    assert sum("nearest" in line for line in lines) == 2 * _MAX_LINES


def test_gives_no_hint_at_a_name_that_is_no_typing_error():
    lines = list_differences({"layer4.0.bn1.running_mean": ()}, {"features.0.bn1.running_mean": ()})
    assert not any("nearest" in line for line in lines)


def test_shows_the_first_lines_of_each_kind_and_counts_the_others():
    expected = {f"a{index}": () for index in range(_MAX_LINES)}
    found = {f"b{index}": () for index in range(_MAX_LINES + 2)}
    lines = list_differences(expected | {"c": (1,)}, found | {"c": (2,)})
    shown = shorten_differences(lines).splitlines()
    last = 2 * _MAX_LINES
    assert shown == [*lines[:last], "  ... and 2 more unexpected", lines[-1]]
    assert shorten_differences(lines[:3]) == "\n".join(lines[:3])


def test_counts_each_kind_of_difference():
    expected = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2), "d": np.zeros(2)}
    found = {"c": np.zeros(3), "d": np.zeros(2, np.float32), "e": np.zeros(2), "f": np.zeros(2)}
    lines = list_differences(expected, found)
    assert count_differences(lines) == "2 missing, 2 unexpected, 1 misshapen, 1 wrong dtype"
    assert count_differences([]) == ""


def test_the_error_lists_the_first_arrays_and_has_all_of_them():
    lines = list_differences({f"layer{i}.weight": (i,) for i in range(1, 13)}, {"step": ()})
    error = DifferentArraysError("the file does not match", lines, "It is another network's.")
    assert isinstance(error, ValueError)
    assert error.differences == lines
    assert len(lines) == 13
    first, *shown, last = str(error).splitlines()
    assert first == "the file does not match: 12 missing, 1 unexpected."
    assert shown == [*lines[:10], "  ... and 2 more missing", "  unexpected  step ()"]
    assert last == "It is another network's."


def test_the_error_passes_between_processes():
    error = DifferentArraysError("the file does not match", ["  missing     a ()"], "Look.")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.differences == error.differences
