"""Rematerialization: which arrays are kept for the backward pass, and errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from aff_jax.nn.rematerialization import _POLICIES, rematerialize


class Layers(nn.Module):
    """Three dense layers, each followed by a sine."""

    remat: bool | str

    @nn.compact
    def __call__(self, x):
        def apply(module, x):
            for index in range(3):
                x = jnp.sin(nn.Dense(4, use_bias=False, name=f"dense{index}")(x))
            return x

        return rematerialize(apply, self.remat)(self, x)


def kept_arrays(remat):
    """Return the number of activations that are kept for the backward pass."""
    x = jnp.zeros((8, 4))
    module = Layers(remat)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    backward = jax.eval_shape(lambda p: jax.vjp(module.apply, p, x)[1], params)
    return sum(leaf.shape == (8, 4) for leaf in jax.tree.leaves(backward))


def test_true_keeps_only_the_input_and_a_policy_keeps_products_too():
    assert kept_arrays(True) == 1
    for policy in _POLICIES:
        assert kept_arrays(policy) == 1 + 3
    assert kept_arrays(False) > 1 + 3


def test_names_of_variables_stay_the_same():
    x = jnp.zeros((1, 4))
    trees = [jax.eval_shape(Layers(r).init, jax.random.key(0), x) for r in (False, True)]
    assert trees[0] == trees[1]


def test_false_returns_the_function_itself():
    assert rematerialize(max, False) is max


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"unknown remat policy 'dots'.*dots_saveable"):
        rematerialize(max, "dots")
