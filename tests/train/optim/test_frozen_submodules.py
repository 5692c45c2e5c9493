"""Frozen submodules: no gradients, no updates, and fixed running statistics."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aff_jax
from train.optim.frozen_submodules import FrozenSubmodules


class Fused(nn.Module):
    """AFF of two feature maps between a stem and a head with batch norm."""

    positional: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(64, name="stem")(x)
        fuse = aff_jax.AFF(name="fuse")
        y = fuse(x, 2 * x, train) if self.positional else fuse(x, 2 * x, train=train)
        y = aff_jax.BatchNorm(name="last_norm")(jnp.mean(y, axis=(1, 2)), train=train)
        return nn.Dense(3, name="head")(y)


@pytest.fixture(scope="module")
def fused():
    """Return feature maps and variables of `Fused`.

    In training, AFF derives the statistics of its last batch norm for maps of this shape.
    """
    x = jnp.float32(np.random.default_rng(0).standard_normal((8, 16, 16, 8)))
    return x, jax.jit(Fused().init)(jax.random.key(0), x)


def test_frozen_submodules_have_no_gradient_no_update_and_fixed_statistics(fused):
    x, variables = fused
    frozen = FrozenSubmodules(Fused(), ("stem", "fu"))

    @jax.jit
    def step(variables):
        def loss(params):
            logits, new = frozen.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(logits**2), new

        gradients, new = jax.grad(loss, has_aux=True)(variables["params"])
        optimizer = frozen.zero_updates(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)))
        params = variables["params"]
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return gradients, updates, new["batch_stats"]

    gradients, updates, statistics = step(variables)
    for tree in (gradients, updates):
        changed = {
            name: any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(leaves))
            for name, leaves in tree.items()
        }
        assert changed == {"stem": False, "fuse": False, "last_norm": True, "head": True}
    before = variables["batch_stats"]
    chex.assert_trees_all_equal(statistics["fuse"], before["fuse"])
    assert not np.allclose(statistics["last_norm"]["mean"], before["last_norm"]["mean"])


@pytest.mark.parametrize("positional", [False, True])
def test_a_frozen_fusion_with_derived_statistics_evaluates(fused, positional):
    x, variables = fused
    model = Fused(positional)
    frozen = FrozenSubmodules(model, ("stem", "fuse", "last_norm"))
    logits, new = frozen.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, model.apply(variables, x), rtol=1e-6)
    chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("remat", [False, True])
def test_frozen_batch_norm_uses_running_statistics(network, remat):
    """If all submodules except the head are frozen, a training step computes an evaluation."""
    model, variables = network
    images = jnp.float32(np.random.default_rng(0).standard_normal((4, 8, 8, 1)))
    model = model.clone(remat=remat)
    names = {name for collection in variables.values() for name in collection}
    frozen = FrozenSubmodules(model, tuple(names - {"head"}))
    frozen.check(variables)
    logits, new = frozen.apply(variables, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, model.apply(variables, images), rtol=1e-6)
    chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (("stagee1",), "unknown submodule to freeze 'stagee1'. Did you mean 'stage1_block0'"),
        (("",), "expected a network with parameters left to train"),
    ],
)
def test_refuses_unknown_prefixes_and_freezing_everything(network, prefixes, message):
    model, variables = network
    with pytest.raises(ValueError) as error:
        FrozenSubmodules(model, prefixes).check(variables)
    assert message in str(error.value)
