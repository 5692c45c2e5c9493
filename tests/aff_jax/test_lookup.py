"""Names are looked up with errors that help."""

import functools

import pytest

from aff_jax.lookup import accepted_fields, construct, look_up, unknown_name


def make(size, color="red"):
    return size, color


def test_unknown_name_offers_the_nearest_first():
    message = unknown_name("colour", "grean", ["pink", "green", "blue"])
    assert message == "unknown colour 'grean'. Did you mean 'green'? Known: blue, green, pink."
    assert "Did you mean" not in unknown_name("colour", "zzz", ["red"])


def test_look_up():
    assert look_up({"a": 1}, "letter", "a") == 1
    with pytest.raises(ValueError, match="unknown letter 'b'"):
        look_up({"a": 1}, "letter", "b")


def test_construct_gives_defaults_to_those_who_know_them():
    assert construct("thing", make, {"size": 1}, {"color": "blue", "weight": 3}) == (1, "blue")
    assert construct("thing", make, {"size": 1, "color": "green"}, {"color": "blue"}) == (
        1,
        "green",
    )


def test_construct_refuses_unknown_fields():
    with pytest.raises(ValueError, match=r"unknown field of thing: 'colour'. Did you mean 'color'"):
        construct("thing", make, {"size": 1, "colour": "blue"})


def test_what_a_partial_has_set_stays():
    bound = functools.partial(make, color="green")
    assert accepted_fields(bound, {"size": 1, "color": "blue"}) == {"size": 1}


def test_a_function_of_any_fields_accepts_all():
    assert accepted_fields(lambda **fields: fields, {"a": 1}) == {"a": 1}
