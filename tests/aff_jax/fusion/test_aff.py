"""AFF and IAFF against NumPy in float64, with and without jit and under pmap."""

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


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_iaff_equals_the_formula(shape, train):
    compare(IAFF(reduction=3, param_dtype=jnp.float64), oracle.iaff, shape, train)


def test_gain_multiplies_the_result():
    compare(AFF(gain=2.0, param_dtype=jnp.float64), oracle.aff, (3, 2, 6), False, gain=2)


def test_gain_multiplies_every_pass():
    compare(IAFF(gain=2.0, param_dtype=jnp.float64), oracle.iaff, (3, 2, 6), False, gain=2)


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
        z = np.concatenate([x, y], axis=-1)
        tanh = np.tanh(oracle.branch(z, params["local"], stats["local"], train, act=oracle.silu))
        return x * (1 + tanh) + y * (2 - (1 + tanh))

    compare(module, formula, (3, 2, 6), False)
    compare(module, formula, (3, 2, 6), True)


@pytest.mark.parametrize("iterations", [1, 3])
def test_iterations_repeat_the_pattern(iterations):
    passes = [("local", "global"), ("local2", "global2"), ("local3", "global3")][:iterations]
    module = IAFF(iterations=iterations, param_dtype=jnp.float64)
    compare(module, oracle.iaff, (3, 2, 6), True, passes=passes)


def test_one_iteration_is_aff():
    x, y = map(np.float32, pair((3, 2, 6)))
    variables = random_variables(AFF(), x, y, dtype=np.float32)
    np.testing.assert_array_equal(
        IAFF(iterations=1).apply(variables, x, y), AFF().apply(variables, x, y)
    )


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_share_global_uses_the_first_global_branch_in_every_pass(train):
    """Its running statistics are updated twice per step, as in the PyTorch port."""
    module = IAFF(share_global=True, param_dtype=jnp.float64)
    passes = [("local", "global"), ("local2", "global")]
    compare(module, oracle.iaff, (3, 2, 6), train, passes=passes)
    params = random_variables(IAFF(share_global=True), *pair((3, 2, 6)))["params"]
    assert sorted(params) == ["global", "local", "local2"]


def test_scales_apply_to_every_pass():
    module = IAFF(scales=("global", "global"), param_dtype=jnp.float64)
    passes = [("global", "global2"), ("global3", "global4")]
    compare(module, oracle.iaff, (3, 2, 6), False, passes=passes)


def test_sows_the_weights_of_every_pass():
    x, y = map(np.float32, pair((3, 2, 6)))
    variables = random_variables(IAFF(), x, y, dtype=np.float32)
    result, sown = IAFF().apply(variables, x, y, mutable=["intermediates"])
    first, second = sown["intermediates"]["fusion_weights"]
    assert first.shape == second.shape == x.shape
    np.testing.assert_allclose(result, x * second + y * (1 - second), rtol=1e-6)


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

        # Steps of 1e-6 in float64: the differences hold to about 1e-8.
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
def test_refuses_shapes_that_differ(module):
    x, y = jnp.ones((2, 4, 4, 8)), jnp.ones((2, 2, 2, 8))
    with pytest.raises(
        ValueError, match=r"AFF: expected x and y of the same shape, got \(2, 4, 4, 8\)"
    ):
        module.init(jax.random.key(0), x, y)


@pytest.mark.parametrize("module", [AFF(), IAFF()])
def test_refuses_integers(module):
    x = jnp.ones((2, 4, 8))
    with pytest.raises(TypeError, match="expected floating-point y, got uint8"):
        module.init(jax.random.key(0), x, x.astype(jnp.uint8))


def test_refuses_an_unknown_way_to_combine():
    x = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"unknown combine 'cat'.*concat, sum"):
        AFF(combine="cat").init(jax.random.key(0), x, x)


def test_refuses_no_iterations():
    x = jnp.ones((2, 4))
    with pytest.raises(ValueError, match="at least one iteration, got 0"):
        IAFF(iterations=0).init(jax.random.key(0), x, x)
