"""AFF against NumPy in float64; and, for AFF and IAFF: jit, pmap, gradients and errors."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, IAFF
from tests.aff_jax import oracle
from tests.aff_jax.fusion.formula import SHAPE_IDS, SHAPES, compare, pair
from tests.aff_jax.random_variables import random_variables


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_aff_equals_the_formula(shape, train):
    compare(AFF(reduction=3, param_dtype=jnp.float64), oracle.aff, shape, train)


def test_gain_multiplies_the_result():
    compare(AFF(gain=2.0, param_dtype=jnp.float64), oracle.aff, (3, 2, 6), False, gain=2)


def test_eres2net_concatenates_and_doubles_the_logit():
    """3D-Speaker's weights are 1 + tanh(l) and 2 - (1 + tanh(l)), from a local branch of [x, y]."""
    module = AFF(
        gain=2.0,
        combine="concat",
        scales=("local",),
        activation=nn.silu,
        logit_scale=2.0,
        param_dtype=jnp.float64,
    )

    def formula(x, y, params, stats, train):
        u = np.concatenate([x, y], axis=-1)
        tanh = np.tanh(oracle.branch(u, params["local"], stats["local"], train, act=oracle.silu))
        return x * (1 + tanh) + y * (2 - (1 + tanh))

    compare(module, formula, (3, 2, 6), False)
    compare(module, formula, (3, 2, 6), True)


class VariantTest(chex.TestCase):
    """Results are the same with and without jit, on a device, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants_agree(self):
        x, y = map(np.float32, pair((4, 3, 2, 6)))
        for module, formula in ((AFF(), oracle.aff), (IAFF(), oracle.iaff)):
            variables = random_variables(module, x, y, dtype=np.float32)
            apply = self.variant(
                lambda v, x, y, m=module: m.apply(v, x, y, True, mutable=["batch_stats"])
            )
            result, new = apply(variables, x, y)
            stats = jax.tree.map(np.float64, variables["batch_stats"])
            wide = np.float64(x), np.float64(y)
            expected = formula(*wide, variables["params"], stats, train=True)
            # Single precision, after batch norms over 4 to 24 values.
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
            chex.assert_trees_all_close(dict(new["batch_stats"]), stats, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", [AFF(param_dtype=jnp.float64), IAFF(param_dtype=jnp.float64)])
def test_gradients_equal_finite_differences(module):
    x, y = pair((4, 3, 6))
    with jax.enable_x64(True):
        variables = random_variables(module, x, y)

        def loss(params, x, y):
            changed = {**variables, "params": params}
            out, _ = module.apply(changed, x, y, True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(out))

        # Finite differences with steps of 1e-6 in float64 are accurate to about 1e-8.
        jax.test_util.check_grads(
            jax.jit(loss),
            (variables["params"], x, y),
            order=1,
            modes=["rev"],
            eps=1e-6,
            atol=1e-6,
            rtol=1e-6,
        )


@pytest.mark.parametrize("module", [AFF(), IAFF()])
def test_refuses_integers(module):
    x = jnp.ones((2, 4, 8))
    with pytest.raises(TypeError, match="expected floating-point y, got uint8"):
        module.init(jax.random.key(0), x, x.astype(jnp.uint8))


def test_refuses_an_unknown_way_to_combine():
    x = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"unknown combine 'cat'.*add, concat"):
        AFF(combine="cat").init(jax.random.key(0), x, x)
