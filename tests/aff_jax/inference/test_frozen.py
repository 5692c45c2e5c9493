"""Tests of frozen networks on several devices, in chunks, with donation, and compiled."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.inference.freezing import freeze
from tests.aff_jax.random_variables import random_variables

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((2, 6, 5, 5, 8), np.float32)


def frozen_fusion(**options):
    """Return a frozen AFF, the outputs of the AFF itself, and the inputs."""
    aff = aff_jax.AFF()
    variables = random_variables(aff, X, Y, dtype=np.float32)
    return freeze(aff, variables, X, Y, **options), aff.apply(variables, X, Y), (X, Y)


@pytest.mark.parametrize("options", [{}, {"donate": True}])
@pytest.mark.parametrize(
    "chunk_size", [2, 4, 100, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 6))]
)
@pytest.mark.parametrize("devices", [None, pytest.param(1, marks=pytest.mark.slow), 2])
def test_chunks_devices_and_donation_do_not_change_outputs(chunk_size, devices, options):
    chosen = None if devices is None else jax.devices()[:devices]
    frozen, expected, (x, y) = frozen_fusion(chunk_size=chunk_size, devices=chosen, **options)
    for _ in range(2):
        result = frozen(jnp.array(x), jnp.array(y))
        # Other chunks of rows round differently.
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert result.sharding.device_set == set(chosen or jax.devices()[:1])


def test_chunks_of_a_module_with_several_outputs():
    class TwoOutputs(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = aff_jax.MSCAM()(x)
            return x, x.mean((1, 2))

    variables = random_variables(TwoOutputs(), X, dtype=np.float32)
    frozen = freeze(TwoOutputs(), variables, X, chunk_size=4)
    expected = TwoOutputs().apply(variables, X)
    chex.assert_trees_all_close(frozen(X), expected, rtol=1e-5, atol=1e-5)


def test_only_the_donated_input_is_deleted():
    frozen, _, (x, y) = frozen_fusion(donate=True)
    x, y = jnp.array(x), jnp.array(y)
    frozen(x, y)
    assert x.is_deleted()
    assert not y.is_deleted()


@pytest.mark.parametrize("devices", [None, 2])
def test_a_compiled_function_does_not_compile_again(devices):
    chosen = None if devices is None else jax.devices()[:devices]
    frozen, expected, (x, y) = frozen_fusion(devices=chosen)
    call = frozen.compile(jax.ShapeDtypeStruct(x.shape, x.dtype), y)
    with jax.no_tracing():
        np.testing.assert_allclose(call(x, y), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="compiled with"):
        call(x[:2], y[:2])


@pytest.mark.parametrize("options", [{}, {"devices": jax.devices()[:2]}, {"chunk_size": 4}])
def test_it_can_be_called_inside_another_jit(options):
    """JAX refuses compiler options in a nested jit."""
    frozen, expected, (x, y) = frozen_fusion(**options)
    for half in (jax.jit(lambda x: frozen(x, y) / 2)(x), jax.jit(lambda s: s * frozen(x, y))(0.5)):
        np.testing.assert_allclose(2 * half, expected, rtol=1e-5, atol=1e-6)
    assert jax.eval_shape(lambda: frozen(x, y)).shape == x.shape
    tangents = jax.jvp(lambda x: frozen(x, jnp.array(y)), (x,), (x,))[1]
    assert tangents.shape == x.shape
    assert jax.grad(lambda x: jnp.sum(frozen(x, y)))(x).shape == x.shape


def test_an_array_with_the_right_sharding_is_not_copied(monkeypatch):
    frozen, expected, inputs = frozen_fusion(devices=jax.devices()[:2])
    sharding = frozen(*inputs).sharding
    placed = [jax.device_put(x, sharding) for x in inputs]
    monkeypatch.setattr(jax, "device_put", lambda *_: pytest.fail("device_put was called"))
    np.testing.assert_allclose(frozen(*placed), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_size_that_is_not_divisible_by_the_devices_is_refused():
    frozen, _, (x, y) = frozen_fusion(devices=jax.devices()[:4])
    with pytest.raises(ValueError, match="divisible by the 4 devices, got 6"):
        frozen(x, y)
    with pytest.raises(ValueError, match="divisible by the 4 devices, got 6"):
        frozen.compile(x, y)
