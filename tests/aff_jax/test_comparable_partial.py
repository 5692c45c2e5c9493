"""Partials that are compared by their function and arguments."""

import pickle
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.comparable_partial import make_comparable


def f(*args, **keywords):
    return args, keywords


def test_equal_arguments_make_equal_partials():
    first, second = (make_comparable(partial(f, 1, b=2)) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first(3, c=4) == ((1, 3), {"b": 2, "c": 4})
    assert pickle.loads(pickle.dumps(first)) == second


@pytest.mark.parametrize("other", [partial(f, 1, b=3), partial(f, 2, b=2), partial(print, 1, b=2)])
def test_other_arguments_make_other_partials(other):
    assert make_comparable(partial(f, 1, b=2)) != make_comparable(other)


def test_other_values_are_unchanged():
    assert make_comparable(f) is f


def test_containers_and_numbers_become_comparable():
    value = make_comparable({"a": [1, [np.float32(2)]], "b": jnp.ones((), int)})
    assert value == {"a": (1, (2.0,)), "b": 1}
    assert hash(value) == hash(make_comparable({"a": [1, [2.0]], "b": 1}))


def test_arguments_need_not_be_hashable():
    first, second = (make_comparable(partial(f, scales=["local"])) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
