"""Recorded outputs of submodules, in linen and in PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aff_jax.parity.recording import Inputs, copy_torch, record_linen, record_torch

X = np.float32(np.random.default_rng(0).standard_normal((2, 3)))


class Twice(nn.Module):
    """A dense layer that is called twice. The module returns two arrays."""

    @nn.compact
    def __call__(self, x, flag=False):
        assert flag is False  # flags stay Python values
        layer = nn.Dense(3, name="dense")
        first = layer(x)
        return layer(first), first


def test_linen_outputs_are_listed_in_order_with_the_number_of_the_call():
    variables = Twice().init(jax.random.key(0), X)
    calls, moved = record_linen(
        Twice(), [(variables, Inputs((X, False), {})), (variables, Inputs((2 * X, False), {}))]
    )
    assert [(call.module, call.number) for call in calls] == [("dense", 1), ("dense", 2), ("", 1)]
    kernel = variables["params"]["dense"]["kernel"]
    # The bias is initialized with zeros. Single precision.
    np.testing.assert_allclose(calls[0].outputs[0], X @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(calls[2].outputs[1], calls[0].outputs[0])
    np.testing.assert_array_equal(moved[0].outputs[0], 2 * calls[0].outputs[0])
    assert calls[0].inputs == ()


def test_inputs_are_recorded_where_asked_for():
    variables = Twice().init(jax.random.key(0), X)
    (calls,) = record_linen(Twice(), [(variables, Inputs((X,), {}))], inputs_of=("dense",))
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
        (calls,) = record_linen(Lifted(), [(variables, Inputs((x,), {}))])
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


def test_torch_outputs_are_copies_in_the_dtype_of_the_copy():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True)).train()
    pixels = np.random.default_rng(0).standard_normal((2, 3, 5, 6))
    copied = copy_torch(module, "float64")
    calls = record_torch(copied, Inputs((pixels,), {}), inputs_of=("1",))
    assert [(call.module, call.number) for call in calls] == [("0", 1), ("1", 1), ("", 1)]
    conv, relu, _ = calls
    assert conv.outputs[0].shape == (2, 4, 5, 6)
    assert conv.outputs[0].dtype == np.float64
    # The ReLU works in place: what was recorded before is a copy.
    assert conv.outputs[0].min() < 0
    np.testing.assert_array_equal(relu.inputs[0], conv.outputs[0])
    np.testing.assert_array_equal(relu.outputs[0], np.maximum(conv.outputs[0], 0))
    assert module.training
    assert module[0].weight.dtype == torch.float32
    assert not any(part._forward_hooks for part in copied.modules())


def test_read_only_inputs_are_copied():
    pixels = np.ones((1, 3, 2, 2), np.float32)
    pixels.flags.writeable = False  # as NumPy views of JAX arrays are
    clip = torch.nn.Hardtanh(0, 0.5, inplace=True)
    (call,) = record_torch(clip, Inputs((pixels,), {}))
    assert call.outputs[0].max() == 0.5
    assert pixels.min() == 1


def test_outputs_in_dicts_and_bfloat16_are_arrays():
    class Named(torch.nn.Module):
        def forward(self, x, scale):
            return {"wide": x, "narrow": (scale * x).bfloat16(), "text": "none"}

    (call,) = record_torch(Named(), Inputs((X,), {"scale": 2}))
    assert [array.dtype for array in call.outputs] == [np.float32, np.float32]


# PyTorch's own modules use what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile])
def test_wrappers_are_removed_at_any_depth(wrap):
    module = torch.nn.Sequential(wrap(torch.nn.Linear(3, 2)), torch.nn.Tanh())
    for wrapped in (module, wrap(module)):
        copied = copy_torch(wrapped, "float32")
        assert list(copied.state_dict()) == ["0.weight", "0.bias"]
