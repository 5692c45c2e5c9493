"""Norms of Flax and of the user in place of `BatchNorm`."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.nn.norm import make_norm
from tests.aff_jax.hosts.families import FAMILIES, small

X = np.float32(np.random.default_rng(0).normal(3, 2, (4, 5, 6)))


class WithTrain(nn.Module):
    """A norm that is called like `BatchNorm`."""

    @nn.compact
    def __call__(self, x, train):
        return x + 1 if train else x


class Normalized(nn.Module):
    """One norm, made as the modules of the library make theirs."""

    norm: object

    @nn.compact
    def __call__(self, x, train=False):
        layer = make_norm(self.norm, name="norm", dtype=None, param_dtype=jnp.float32)
        return layer(x, train=train)


def test_a_module_with_train_gets_it():
    assert np.all(Normalized(WithTrain).apply({}, X, train=True) == X + 1)


def test_flax_batch_norm_uses_running_statistics_in_evaluation_only():
    module, batch_norm = Normalized(nn.BatchNorm), aff_jax.BatchNorm(momentum=0.99)
    variables = module.init(jax.random.key(0), X)
    inner = {name: tree["norm"] for name, tree in variables.items()}
    result, new = module.apply(variables, X, train=True, mutable=["batch_stats"])
    expected, stats = batch_norm.apply(inner, X, True, mutable=["batch_stats"])
    # Flax computes the variance in one pass, with another rounding.
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            new["batch_stats"]["norm"][name], stats["batch_stats"][name], rtol=1e-5
        )
    np.testing.assert_allclose(
        module.apply(variables, X), batch_norm.apply(inner, X), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("norm", [nn.LayerNorm, functools.partial(nn.GroupNorm, num_groups=1)])
def test_norms_of_single_examples_are_the_same_in_training(norm):
    module = Normalized(norm)
    variables = module.init(jax.random.key(0), X)
    np.testing.assert_array_equal(
        module.apply(variables, X), module.apply(variables, X, train=True)
    )


NORMS = [nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, functools.partial(nn.GroupNorm, num_groups=1)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "name",
    ["cifar_resnet8", *(pytest.param(n, marks=pytest.mark.slow) for n in list(FAMILIES)[1:])],
)
def test_hosts_take_them(name, norm):
    model = small(name, "aff", norm=norm)
    images = jnp.ones((1, 8, 8, 3))

    def initialize_and_train(key):
        variables = model.init(key, images)
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    logits, _ = jax.eval_shape(initialize_and_train, jax.random.key(0))
    assert logits.shape[-1] == 3


@pytest.mark.parametrize("fusion", ["concat", "aff"])
def test_a_batch_of_one_can_be_trained_with_a_norm_of_single_examples(fusion):
    norm = functools.partial(nn.GroupNorm, num_groups=1)
    module = aff_jax.create_fusion(fusion, norm=norm)
    x = jnp.asarray(X[:1])
    variables = module.init(jax.random.key(0), x, x)
    assert np.isfinite(module.apply(variables, x, x, train=True)).all()
