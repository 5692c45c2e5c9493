"""Recorded outputs of linen submodules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.parity.recording.linen_recording import record_linen
from aff_jax.parity.recording.recorder import Inputs

X = np.float32(np.random.default_rng(0).standard_normal((2, 3)))


class Twice(nn.Module):
    """A dense layer that is called twice. The module returns two arrays."""

    @nn.compact
    def __call__(self, x, flag=False):
        assert flag is False  # flags stay Python values
        layer = nn.Dense(3, name="dense")
        first = layer(x)
        return layer(first), first


def test_outputs_are_listed_in_order_with_the_number_of_the_call():
    variables = Twice().init(jax.random.key(0), X)
    (calls,) = record_linen(Twice(), variables, Inputs((X, False), {}))
    assert [(call.module, call.number) for call in calls] == [("dense", 1), ("dense", 2), ("", 1)]
    kernel = variables["params"]["dense"]["kernel"]
    # The bias is initialized with zeros. Single precision.
    np.testing.assert_allclose(calls[0].outputs[0], X @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(calls[2].outputs[1], calls[0].outputs[0])
    assert calls[0].inputs == ()


def test_inputs_are_recorded_where_asked_for():
    variables = Twice().init(jax.random.key(0), X)
    (calls,) = record_linen(Twice(), variables, Inputs((X,), {}), inputs_of=("dense",))
    np.testing.assert_array_equal(calls[0].inputs[0], X)
    np.testing.assert_array_equal(calls[1].inputs[0], calls[0].outputs[0])


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Step(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.Dense(3, name="dense")(carry), None


class Lifted(nn.Module):
    """Layers inside the transformations of Flax."""

    @nn.compact
    def __call__(self, x):
        x = nn.jit(Layer)(name="jit")(nn.remat(Layer)(name="remat")(x))
        stack = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return stack(name="scan")(x, None)[0]


def test_calls_inside_transformations_are_recorded_in_full_precision():
    x = np.float64(X)
    with jax.enable_x64(True):
        variables = Lifted().init(jax.random.key(0), x)
        variables = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64) / 3, variables)
        (calls,) = record_linen(Lifted(), variables, Inputs((x,), {}))
    assert [(call.module, call.number) for call in calls] == [
        ("remat/Dense_0", 1),
        ("remat", 1),
        ("jit/Dense_0", 1),
        ("jit", 1),
        ("scan/dense", 1),
        ("scan", 1),
        ("scan/dense", 2),
        ("scan", 2),
        ("", 1),
    ]
    assert {call.outputs[0].dtype for call in calls} == {np.dtype(np.float64)}
    kernel = np.asarray(variables["params"]["remat"]["Dense_0"]["kernel"])
    # Float64: JAX may run callbacks in threads without x64, which would leave seven digits.
    np.testing.assert_allclose(calls[0].outputs[0], x @ kernel, rtol=1e-13, atol=1e-14)


class Trains(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return nn.BatchNorm(use_running_average=not train)(x)


def test_a_module_in_training_mode_is_refused_with_its_flag():
    variables = Trains().init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"pass its flag, such as kwargs=\{'train': False\}"):
        record_linen(Trains(), variables, Inputs((X,), {}))
    record_linen(Trains(), variables, Inputs((X,), {"train": False}))
