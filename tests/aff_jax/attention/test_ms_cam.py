"""MSCAM against NumPy in float64, with and without jit and under pmap."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import MSCAM, BatchNorm
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables

SHAPES = [(5, 6), (4, 3, 6), (3, 4, 2, 6), (2, 3, 2, 4, 6)]
SHAPE_IDS = ["no spatial axis", "1-d", "2-d", "3-d"]
# Both sides are float64 and sum at most 48 numbers of order one.
EXACT = 1e-12


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_equals_the_formula(shape, train):
    x = normal(shape, 1)
    with jax.enable_x64(True):
        module = MSCAM(reduction=3, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        stats = jax.tree.map(np.copy, variables["batch_stats"])
        expected = oracle.ms_cam(x, variables["params"], stats, train)
        result, new = module.apply(variables, x, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, rtol=EXACT, atol=EXACT)
    chex.assert_trees_all_close(dict(new["batch_stats"]), stats, rtol=EXACT)


@pytest.mark.parametrize(
    ("scales", "names"),
    [
        (("global", "global"), ["global", "global2"]),
        (("local", "local"), ["local", "local2"]),
        (("global",), ["global"]),
        (("local",), ["local"]),
        (("global", "local", "global"), ["global", "local", "global2"]),
    ],
)
def test_scales_are_the_branches_that_are_summed(scales, names):
    x = normal((3, 4, 2, 6), 1)
    with jax.enable_x64(True):
        module = MSCAM(scales=scales, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        assert sorted(variables["params"]) == sorted(names)
        result = module.apply(variables, x)
    expected = oracle.ms_cam(x, variables["params"], variables["batch_stats"], names=names)
    np.testing.assert_allclose(result, expected, rtol=EXACT, atol=EXACT)


def test_activation_and_logit_scale():
    x = normal((3, 4, 6), 1)
    with jax.enable_x64(True):
        module = MSCAM(activation=nn.silu, logit_scale=2.0, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        result = module.apply(variables, x)
    params, stats = variables["params"], variables["batch_stats"]
    expected = oracle.ms_cam(x, params, stats, act=oracle.silu, logit_scale=2)
    np.testing.assert_allclose(result, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("reduction", "hidden"), [(4, 2), (8, 1), (16, 1), (1, 8)])
def test_hidden_width_is_at_least_one(reduction, hidden):
    params = random_variables(MSCAM(reduction=reduction), normal((2, 8), 1))["params"]
    assert params["local"]["reduce"]["kernel"].shape == (8, hidden)


def test_sows_its_weights():
    x = normal((3, 4, 2, 6), 1)
    variables = random_variables(MSCAM(), x, dtype=np.float32)
    result, sown = MSCAM().apply(variables, jnp.float32(x), mutable=["intermediates"])
    (weights,) = sown["intermediates"]["fusion_weights"]
    assert 0 < weights.min() < weights.max() < 1
    np.testing.assert_allclose(result, np.float32(x) * weights, rtol=1e-6)


def test_dtype_computes_in_it_and_keeps_parameters_and_statistics_float32():
    x = jnp.asarray(normal((3, 4, 6), 1), jnp.bfloat16)
    module = MSCAM(dtype=jnp.bfloat16)
    variables = module.init(jax.random.key(0), x)
    result, new = module.apply(variables, x, train=True, mutable=["batch_stats"])
    assert result.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}


class VariantTest(chex.TestCase):
    """Results are the same with and without jit, on a device, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants_agree(self):
        x = np.float32(normal((4, 3, 2, 6), 1))
        variables = random_variables(MSCAM(), x, dtype=np.float32)
        apply = self.variant(lambda v, x: MSCAM().apply(v, x, True, mutable=["batch_stats"]))
        result, new = apply(variables, x)
        stats = jax.tree.map(np.float64, variables["batch_stats"])
        expected = oracle.ms_cam(np.float64(x), variables["params"], stats, train=True)
        # Single precision, after batch norms over 4 to 24 values.
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close(dict(new["batch_stats"]), stats, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gradients_equal_finite_differences():
    x = normal((4, 3, 6), 1)
    with jax.enable_x64(True):
        module = MSCAM(param_dtype=jnp.float64)
        variables = random_variables(module, x)

        def loss(params, x):
            out, _ = module.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(out))

        # Finite differences with steps of 1e-6 in float64 are accurate to about 1e-8.
        jax.test_util.check_grads(
            loss, (variables["params"], x), order=1, modes=["rev"], eps=1e-6, atol=1e-6, rtol=1e-6
        )


def test_refuses_integers():
    with pytest.raises(TypeError, match=r"MSCAM: expected floating-point x, got int32 .*normalize"):
        MSCAM().init(jax.random.key(0), jnp.ones((2, 3), jnp.int32))


def test_refuses_a_missing_batch_axis():
    with pytest.raises(ValueError, match=r"\(batch, \*spatial, channels\), got \(3,\).*x\[None\]"):
        MSCAM().init(jax.random.key(0), jnp.ones(3))


def test_refuses_an_unknown_scale_and_offers_the_nearest():
    with pytest.raises(ValueError, match=r"unknown scale 'globl'. Did you mean 'global'"):
        MSCAM(scales=("globl",)).init(jax.random.key(0), jnp.ones((2, 3)))


@pytest.mark.parametrize("reduction", [0, -4, float("nan")])
def test_refuses_a_reduction_that_is_not_positive(reduction):
    with pytest.raises(ValueError, match=f"positive reduction, got {reduction}"):
        MSCAM(reduction=reduction).init(jax.random.key(0), jnp.ones((2, 3)))


@pytest.mark.parametrize(("reduction", "hidden"), [(4, 2), (2.0, 4), (0.5, 16), (3, 2), (99, 1)])
def test_a_branch_has_the_channels_over_the_reduction(reduction, hidden):
    init = functools.partial(MSCAM(reduction=reduction).init, jax.random.key(0))
    kernel = jax.eval_shape(init, jnp.ones((2, 8)))["params"]["local"]["reduce"]["kernel"]
    assert kernel.shape == (8, hidden)


def test_refuses_training_without_mutable_statistics():
    x = jnp.ones((2, 3))
    variables = MSCAM().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"local/reduce_norm: train=True .*mutable=\['batch_stats"):
        MSCAM().apply(variables, x, train=True)


def test_refuses_a_batch_of_one_in_training():
    x = jnp.ones((1, 4, 4, 3))
    variables = MSCAM().init(jax.random.key(0), x, train=True)
    with pytest.raises(ValueError, match=r"global/reduce_norm: expected more than one value"):
        MSCAM().apply(variables, x, train=True, mutable=["batch_stats"])
    assert MSCAM().apply(variables, x).shape == x.shape


def test_accepts_a_batch_of_one_on_each_of_several_devices():
    x = np.float32(normal((4, 1, 2, 3), 1))
    module = MSCAM(norm=lambda **fields: BatchNorm(axis_name="batch", **fields))
    variables = random_variables(MSCAM(), x[0], dtype=np.float32)
    step = jax.pmap(
        lambda x: module.apply(variables, x, True, mutable=["batch_stats"]), axis_name="batch"
    )
    result, new = step(x)
    expected, expected_new = MSCAM().apply(variables, x[:, 0], True, mutable=["batch_stats"])
    np.testing.assert_allclose(result[:, 0], expected, rtol=1e-5, atol=1e-6)
    for device in range(4):
        mine = jax.tree.map(lambda leaf, device=device: leaf[device], new)
        chex.assert_trees_all_close(mine, expected_new, rtol=1e-5, atol=1e-6)
