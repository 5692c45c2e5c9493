"""Tests of lookup by name and of its error messages."""

import functools

import pytest

from aff_jax.lookup import accepted_fields, construct, look_up, unknown_name


def make(size, color="red"):
    return size, color


def test_the_message_suggests_the_closest_names():
    message = unknown_name("colour", "grean", ["pink", "green", "blue"])
    assert message == "unknown colour 'grean'. Did you mean 'green'? Known: blue, green, pink."
    assert "Did you mean" not in unknown_name("colour", "zzz", ["red"])


def test_a_known_name_is_looked_up_and_an_unknown_one_refused():
    assert look_up({"a": 1}, "letter", "a") == 1
    with pytest.raises(ValueError, match="unknown letter 'b'"):
        look_up({"a": 1}, "letter", "b")


def test_defaults_are_passed_only_if_the_constructor_accepts_them():
    assert construct("thing", make, {"size": 1}, {"color": "blue", "weight": 3}) == (1, "blue")
    assert construct("thing", make, {"size": 1, "color": "green"}, {"color": "blue"}) == (
        1,
        "green",
    )


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"unknown field of thing: 'colour'. Did you mean 'color'"):
        construct("thing", make, {"size": 1, "colour": "blue"})


def test_a_field_that_a_partial_has_set_is_kept():
    bound = functools.partial(make, color="green")
    assert accepted_fields(bound, {"size": 1, "color": "blue"}) == {"size": 1}


def test_a_function_with_keyword_arguments_accepts_all_fields():
    assert accepted_fields(lambda **fields: fields, {"a": 1}) == {"a": 1}
