"""Rematerialized blocks: the same network, with fewer arrays kept for the backward pass."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.description import describe_model, model_from_description
from aff_jax.inspection import inspect_module
from tests.aff_jax.hosts.test_registry import gradients_of, shallow
from tests.aff_jax.random_variables import random_variables

HOSTS = ("cifar_resnet8", "cifar_resnext29_32x4d", "inception8", "unet_resnet20", "resnet18")
X = np.random.default_rng(0).standard_normal((4, 8, 8, 3))


def kept_bytes(model, variables):
    """Return the size of the arrays kept for the backward pass, parameters included."""

    def backward(variables):
        def logits(params):
            return model.apply({**variables, "params": params}, X, True, mutable=["batch_stats"])[0]

        return jax.vjp(logits, variables["params"])[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, variables))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_fewer_bytes_are_kept_and_names_are_the_same(name):
    model = shallow(name, "aff")
    lean = model.clone(remat=True)
    assert lean != model
    plain, less = (inspect_module(module, (X,)) for module in (model, lean))
    chex.assert_trees_all_equal_shapes_and_dtypes(plain.variables, less.variables)
    assert {path: type(layer.module) for path, layer in less.layers.items()} == {
        path: type(layer.module) for path, layer in plain.layers.items()
    }
    weights = sum(leaf.size * 4 for leaf in jax.tree.leaves(plain.variables))
    kept = kept_bytes(model, plain.variables) - weights
    # There is one block in each stage: the inputs of blocks are much of what is left.
    assert kept_bytes(lean, less.variables) - weights < 0.6 * kept


@pytest.mark.slow
def test_gradients_and_statistics_are_the_same():
    """Compare in double precision, where another order of the same sums differs by 1e-15."""
    with jax.enable_x64(True):
        model = shallow("unet_resnet20").clone(param_dtype=jnp.float64)
        variables = random_variables(model, X)
        plain, lean = (
            jax.jit(functools.partial(gradients_of, module))(variables, X)
            for module in (model, model.clone(remat=True))
        )
    chex.assert_trees_all_close(lean, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_feature_maps_and_fusion_weights_are_the_same():
    model = create_model("cifar_resnet8", "aff", features_only=True)
    x = np.float32(X)
    variables = random_variables(model, x, dtype=np.float32)
    plain, lean = (
        jax.jit(functools.partial(module.apply, mutable=["intermediates"]))(variables, x)
        for module in (model, model.clone(remat=True))
    )
    assert len(jax.tree.leaves(lean[1])) == 3
    chex.assert_trees_all_equal_shapes(lean, plain)
    chex.assert_trees_all_close(lean, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_policy_keeps_more():
    model = shallow("resnet18", "aff")
    variables = inspect_module(model, (X,)).variables
    everything, products, nothing = (
        kept_bytes(model.clone(remat=remat), variables) for remat in (False, "dots_saveable", True)
    )
    # The difference to `nothing` leaves out the parameters, which are always kept.
    assert 0.05 < (products - nothing) / (everything - nothing) < 0.5


def test_remat_is_not_saved():
    model = create_model("cifar_resnet8", remat=True, fusion_fields={"remat": True, "reduction": 2})
    again = model_from_description(describe_model(model))
    assert again.remat is False
    assert dict(again.fusion_fields) == {"reduction": 2}
