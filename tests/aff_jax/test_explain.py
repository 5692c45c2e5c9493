"""Tests of the weights of fusions, which `fusion_weights` collects, against NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax import (
    AFF,
    IAFF,
    MSCAM,
    create_fusion,
    create_model,
    explain,
    fusion_weights,
    list_fusions,
)
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables

# The weights are float64 and sum at most a few hundred numbers of order one.
EXACT = 1e-12
RNG = np.random.default_rng(0)


class Fused(nn.Module):
    """A custom network with an AFF and an IAFF."""

    @nn.compact
    def __call__(self, x, train=False):
        x = AFF(param_dtype=jnp.float64, name="aff")(x, x**2, train)
        return IAFF(param_dtype=jnp.float64, name="iaff")(x, -x, train)


def test_weights_of_each_pass_follow_the_formula():
    x = RNG.standard_normal((2, 3, 4, 8))
    with jax.enable_x64(True):
        variables = random_variables(Fused(), x)
        found = fusion_weights(Fused(), variables, x)
    params, stats = variables["params"], variables["batch_stats"]
    first = oracle.weights(x + x**2, params["aff"], stats["aff"], False)
    z = x * first + x**2 * (1 - first)
    one = oracle.weights(z - z, params["iaff"], stats["iaff"], False)
    names = ("local2", "global2")
    again = z * one - z * (1 - one)
    two = oracle.weights(again, params["iaff"], stats["iaff"], False, names=names)
    assert list(found) == ["aff", "iaff"]
    assert [len(weights) for weights in found.values()] == [1, 2]
    for actual, expected in zip([*found["aff"], *found["iaff"]], [first, one, two], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=EXACT, atol=EXACT)


def test_the_path_of_a_single_module_is_empty():
    x = RNG.standard_normal((2, 3, 8))
    variables = random_variables(MSCAM(), x, dtype=np.float32)
    ((weights,),) = fusion_weights(MSCAM(), variables, x).values()
    result = MSCAM().apply(variables, x)
    np.testing.assert_allclose(x * weights, result, rtol=1e-6)
    assert list(fusion_weights(MSCAM(), variables, x)) == [""]


@pytest.mark.parametrize("fusion", list_fusions())
def test_every_fusion_has_weights_or_raises(fusion):
    module, x = create_fusion(fusion), np.float32(RNG.standard_normal((2, 3, 4, 8)))
    variables = random_variables(module, x, x, dtype=np.float32)
    if not hasattr(module, "scales"):
        with pytest.raises(ValueError, match=rf"nothing sows 'fusion_weights'.*'{fusion}'"):
            fusion_weights(module, variables, x, -x)
        return
    (weights,) = fusion_weights(module, variables, x, -x).values()
    assert len(weights) == (2 if fusion == "iaff" else 1)
    assert all(np.all((array >= 0) & (array <= 1)) for array in weights)


def test_weights_of_a_host_are_listed_by_path():
    model, images = create_model("cifar_resnet8", num_classes=3), np.zeros((2, 8, 6, 3))
    variables = random_variables(model, images, dtype=np.float32)
    found = jax.eval_shape(functools.partial(fusion_weights, model), variables, images)
    assert list(found) == [f"stage{stage}_block0/fuse" for stage in (1, 2, 3)]


def test_both_functions_are_public():
    assert aff_jax.fusion_weights is explain.fusion_weights
    assert aff_jax.grad_cam is explain.grad_cam
    assert {"fusion_weights", "grad_cam"} <= set(aff_jax.__all__)
