"""Names, hidden channels and norms of the branches of attention."""

import jax
import numpy as np
import pytest

import aff_jax
from aff_jax.attention.branches import branch_names

X = np.zeros((2, 3, 8), np.float32)


def test_branches_of_a_later_pass_continue_the_numbering():
    assert branch_names(("local", "global"), 2) == ["local2", "global2"]
    assert branch_names(("global", "global"), 2) == ["global3", "global4"]


def test_refuses_a_string_of_scales():
    with pytest.raises(ValueError, match="expected a tuple of scales, got the string"):
        branch_names("global")


@pytest.mark.parametrize("hidden", [0, 2.5, lambda channels: -1])
def test_hidden_channels_are_a_positive_integer(hidden):
    with pytest.raises((TypeError, ValueError), match="hidden"):
        aff_jax.AFF(hidden=hidden).init(jax.random.key(0), X, X)


def test_norms_are_as_many_as_scales():
    module = aff_jax.AFF(norm=(None,))
    with pytest.raises(ValueError, match="one norm for each of the scales local, global, got 1"):
        module.init(jax.random.key(0), X, X)
