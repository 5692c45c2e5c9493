"""Linen modules bridged to NNX by `flax.nnx.bridge.ToNNX` compute what they compute in linen."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aff_jax
from aff_jax.hosts.pyramid import PyramidHost
from tests.aff_jax.hosts.families import FAMILIES, small

X = np.float32(np.random.default_rng(0).standard_normal((4, 8, 8, 8)))
Y = X[::-1].copy()


MODULES = {
    "MSCAM": (aff_jax.MSCAM(), (X,)),
    "AFF": (aff_jax.AFF(), (X, Y)),
    "IAFF": (aff_jax.IAFF(), (X, Y)),
    **{name: (small(name, "add"), (X,)) for name in FAMILIES},
}


def with_slow(names, fast):
    """Parametrize over names, and leave those that are not in `fast` to CI."""
    slow = pytest.mark.slow
    rows = [name if name in fast else pytest.param(name, marks=slow) for name in names]
    return pytest.mark.parametrize("name", rows)


@with_slow(aff_jax.list_models(), fast=FAMILIES)
def test_every_registered_host_has_a_bridge(name):
    model = aff_jax.create_model(name, "add", num_classes=7)  # addition is traced fastest
    shapes = []

    class Bridge(nnx.bridge.ToNNX):
        """A bridge that records the shape of its result, because `lazy_init` drops the result."""

        def __call__(self, *args, **kwargs):
            shapes.append(super().__call__(*args, **kwargs).shape)

    def make():
        return Bridge(model, rngs=nnx.Rngs(0)).lazy_init(jnp.ones((2, 8, 8, 3)))

    head = nnx.eval_shape(make).head
    assert head["kernel"].shape[1:] == (7,)
    pixels = (8, 8) if isinstance(model, PyramidHost) else ()
    assert shapes == [(2, *pixels, 7)]


def collections(bridged):
    """Return the variables of a bridged module as a dict of collections, as in linen."""
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
    return {name: nnx.to_pure_dict(nnx.state(bridged, kind)) for name, kind in kinds.items()}


def bridge(name):
    module, inputs = MODULES[name]

    @nnx.jit  # compiled layer by layer, it takes many times as long
    def make():
        return nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(*inputs)

    return module, make(), inputs


@with_slow(MODULES, fast=("IAFF", "cifar_resnet8"))
def test_evaluation_equals_linen(name):
    module, bridged, inputs = bridge(name)
    variables = collections(bridged)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        variables, jax.eval_shape(module.init, jax.random.key(0), *inputs)
    )
    expected = jax.jit(module.apply)(variables, *inputs)
    result = nnx.jit(type(bridged).__call__)(bridged, *inputs)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_equal(collections(bridged), variables)


@with_slow(("MSCAM", "AFF", "IAFF", "cifar_resnet8", "resnet18"), fast=("AFF",))
def test_statistics_and_gradients_of_training_equal_linen(name):
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
