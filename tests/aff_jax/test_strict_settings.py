"""The library under strict settings of JAX: no implicit axes and no implicit dtypes."""

import jax
import jax.numpy as jnp
import pytest

import aff_jax
from aff_jax.inference import freeze
from tests.aff_jax.hosts.families import FAMILIES, small

MAPS = jnp.ones((4, 4, 4, 8))  # enough rows for derived statistics
IMAGES = jnp.ones((2, 8, 8, 3))


def check(module, *inputs):
    """Trace initialization, training with its gradient, and evaluation."""

    def loss(params, stats):
        variables = {"params": params, "batch_stats": stats}
        outputs, _ = module.apply(variables, *inputs, train=True, mutable=["batch_stats"])
        return jnp.sum(outputs)

    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    params, stats = variables.get("params", {}), variables.get("batch_stats", {})
    jax.eval_shape(jax.grad(loss), params, stats)
    jax.eval_shape(module.apply, variables, *inputs)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.mark.parametrize("name", aff_jax.list_fusions())
def test_fusions(name):
    check(aff_jax.create_fusion(name), MAPS, MAPS)


@pytest.mark.parametrize(
    "name",
    [
        name if name == "cifar_resnet8" else pytest.param(name, marks=pytest.mark.slow)
        for name in FAMILIES
    ],
)
def test_hosts(name):
    check(small(name, "add"), IMAGES)


def test_frozen():
    module = aff_jax.create_fusion("concat")
    x = jnp.ones((2, 3))
    freeze(module, module.init(jax.random.key(0), x, x), x, x)(x, x)
