"""Linen modules inside NNX, by `flax.nnx.bridge.ToNNX`: equal to linen, statistics included."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aff_jax

X = np.float32(np.random.default_rng(0).standard_normal((4, 8, 8, 8)))
Y = X[::-1].copy()


class Inner(nn.Module):
    """A level around a host, for those whose layers would hide fields of the bridge."""

    host: nn.Module

    @nn.compact
    def __call__(self, x, train=False):
        return self.host(x, train=train)


MODULES = {
    "MSCAM": (aff_jax.MSCAM(), (X,)),
    "AFF": (aff_jax.AFF(), (X, Y)),
    "IAFF": (aff_jax.IAFF(), (X, Y)),
    "host": (
        aff_jax.hosts.resnet.ResNet(
            num_classes=5, block="basic", blocks_per_stage=(1,), base_channels=8, small_input=True
        ),
        (X,),
    ),
    "a host of the authors, a level down": (
        Inner(aff_jax.create_model("cifar_resnet8", num_classes=5)),
        (X,),
    ),
}


def collections(bridged):
    """What the bridged module holds, as linen's dict of collections."""
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
    return {name: nnx.to_pure_dict(nnx.state(bridged, kind)) for name, kind in kinds.items()}


def bridge(name):
    module, inputs = MODULES[name]

    @nnx.jit  # layer by layer, it would take many times as long
    def make():
        return nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(*inputs)

    return module, make(), inputs


@pytest.mark.parametrize("name", MODULES)
def test_evaluation_is_linens(name):
    module, bridged, inputs = bridge(name)
    variables = collections(bridged)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        variables, jax.eval_shape(module.init, jax.random.key(0), *inputs)
    )
    ours, theirs = jax.jit(module.apply)(variables, *inputs), nnx.jit(type(bridged).__call__)
    np.testing.assert_allclose(theirs(bridged, *inputs), ours, rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_equal(collections(bridged), variables)


@pytest.mark.parametrize("name", MODULES)
def test_training_moves_statistics_and_gives_gradients_as_linen_does(name):
    module, bridged, inputs = bridge(name)
    variables = collections(bridged)

    @nnx.jit
    @nnx.value_and_grad
    def nnx_loss(bridged, *inputs):
        return jnp.mean(jnp.square(bridged(*inputs, train=True, mutable=["batch_stats"])))

    @jax.jit
    def linen_loss(params, stats, *inputs):
        y, new = module.apply(
            {"params": params, "batch_stats": stats}, *inputs, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(y)), new["batch_stats"]

    stats = variables["batch_stats"]
    for _ in range(2):
        loss, gradients = nnx_loss(bridged, *inputs)
        (expected, stats), expected_gradients = jax.value_and_grad(linen_loss, has_aux=True)(
            variables["params"], stats, *inputs
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        chex.assert_trees_all_close(
            nnx.to_pure_dict(gradients), expected_gradients, rtol=1e-4, atol=1e-6
        )
    moved = collections(bridged)["batch_stats"]
    chex.assert_trees_all_close(moved, stats, rtol=1e-5, atol=1e-6)
    for before, after in zip(
        jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(moved), strict=True
    ):
        assert not np.array_equal(before, after)
