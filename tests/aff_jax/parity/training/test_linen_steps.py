"""Recorded steps of a linen module, compared with NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aff_jax.convert.mapping import list_entries
from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import inspect_module
from aff_jax.parity.training.linen_steps import LinenTraining, bind_training_arguments
from aff_jax.parity.training.packed_arrays import Packing

X = np.random.default_rng(0).standard_normal((4, 3))
KERNEL = np.random.default_rng(1).standard_normal((3, 2))


class Linear(nn.Module):
    """A dense layer."""

    @nn.compact
    def __call__(self, x, train=False, scale=1.0):
        return scale * nn.Dense(2, use_bias=False, name="fc")(x)


def run(optimizer, steps=2, names=None, loss=jnp.sum):
    """Train on the sum of the outputs, whose gradient is the same in each step."""
    with jax.enable_x64(True):
        entries = list_entries(inspect_module(Linear(), (X,)), PYTORCH)
        names = names or {"fc.weight": "net.fc.weight"}
        training = LinenTraining(Linear(), (X,), {}, loss, optimizer, entries, names, Packing(()))
        return list(training.run({"params": {"fc": {"kernel": jnp.asarray(KERNEL)}}}, steps))


def test_steps_have_the_names_and_layouts_of_pytorch():
    before, first, second = run(optax.sgd(0.1, momentum=0.5))
    gradient = np.repeat(X.sum(0)[None], 2, 0)  # (out, in), as in PyTorch
    np.testing.assert_array_equal(before.weights["net.fc.weight"], KERNEL.T)
    assert first.loss == pytest.approx((X @ KERNEL).sum(), rel=1e-12)
    np.testing.assert_allclose(first.outputs[0], X @ KERNEL, rtol=1e-12)
    for step, trace in ((first, gradient), (second, 1.5 * gradient)):
        np.testing.assert_allclose(step.gradients["net.fc.weight"], gradient, rtol=1e-12)
        moment = step.optimizer_state["net.fc.weight.momentum_buffer"]
        np.testing.assert_allclose(moment, trace, rtol=1e-12)
    expected = KERNEL.T - 0.1 * (1 + 1.5) * gradient
    np.testing.assert_allclose(second.weights["net.fc.weight"], expected, rtol=1e-12)


def test_moments_are_found_in_nested_states():
    optimizer = optax.chain(optax.clip(1e3), optax.masked(optax.adam(0.1), {"fc": True}))
    _, first = run(optimizer, steps=1)
    gradient = np.repeat(X.sum(0)[None], 2, 0)
    moments = first.optimizer_state
    np.testing.assert_allclose(moments["net.fc.weight.exp_avg"], 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(moments["net.fc.weight.exp_avg_sq"], 1e-3 * gradient**2, rtol=1e-6)


def test_masked_weights_have_no_moments():
    _, first = run(optax.masked(optax.adam(0.1), {"fc": False}), steps=1)
    assert not first.optimizer_state


def test_names_that_pytorch_lacks_are_left_out():
    (before,) = run(optax.sgd(0.1), steps=0, names={"other": "other"})
    assert not before.weights


def test_wrong_losses_and_optimizers_are_refused():
    with pytest.raises(ValueError, match=r"scalar array, got shape \(4,\)"):
        run(optax.sgd(0.1), loss=lambda outputs: outputs.mean(1))
    with pytest.raises(TypeError, match="expected `optimizer` to be an optax"):
        run(0.1)


@pytest.mark.parametrize(
    ("inputs", "kwargs", "expected"),
    [
        ((X,), None, (True, 1.0)),
        ((X, False), None, (False, 1.0)),
        ((X,), {"scale": 2.0}, (False, 2.0)),
    ],
)
def test_the_flag_of_training_is_set_where_none_is_given(inputs, kwargs, expected):
    arguments, keywords = bind_training_arguments(Linear(), inputs, kwargs)
    assert arguments[0] is X
    assert arguments[1:] == expected
    assert keywords == {}


def test_keyword_only_flags_stay_keywords():
    class Keyword(nn.Module):
        def __call__(self, x, *, deterministic=True):
            return x

    assert bind_training_arguments(Keyword(), (X,), None)[1] == {"deterministic": False}
