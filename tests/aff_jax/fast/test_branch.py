"""A branch with derived statistics: outputs, gradients, dtypes and missing parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import MSCAM, BatchNorm
from aff_jax.fast import takes_shortcut
from aff_jax.fast.branch import dense_norm
from aff_jax.nn.batch_norm import along_channels
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables

LONG = (4, 8, 8, 16)
"""A shape for which the rule derives the statistics."""


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


class DenseNorm(nn.Module):
    """A dense layer and its batch norm in training, with or without the product in memory."""

    norm: BatchNorm
    derived: bool

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(12, param_dtype=jnp.float64, name="dense")
        norm = self.norm.clone(parent=self, name="batch_norm")
        if self.derived and not self.is_initializing():
            y, shift = dense_norm(dense, norm, x)
            return y + along_channels(shift, y.ndim)
        return norm(dense(x), train=True)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("unbiased", [True, False])
def test_dense_norm_equals_the_norm_of_the_product(unbiased, use_bias):
    """Compare outputs, statistics and gradients."""
    x, d = normal((8, 5, 5, 3)), normal((8, 5, 5, 12), 2)
    with jax.enable_x64(True):
        norm = BatchNorm(unbiased_variance=unbiased, use_bias=use_bias, param_dtype=jnp.float64)
        variables = random_variables(DenseNorm(norm, False), x)

        def pull_back(derived):
            def apply(params, x):
                given = {**variables, "params": params}
                return DenseNorm(norm, derived).apply(given, x, mutable=["batch_stats"])

            y, pull, updates = jax.vjp(apply, variables["params"], x, has_aux=True)
            return y, updates, pull(d)

        derived, plain = pull_back(True), pull_back(False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11), derived, plain
    )


def test_attention_with_derived_statistics_equals_the_formula():
    x = normal((4, 6, 6, 16))
    with jax.enable_x64(True):
        module = MSCAM(reduction=4, param_dtype=jnp.float64)
        variables = random_variables(module, x)
        stats = jax.tree.map(np.copy, variables["batch_stats"])
        expected = oracle.ms_cam(x, variables["params"], stats, train=True)
        result, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
        dict(updates["batch_stats"]),
        stats,
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_float32_statistics(dtype):
    x = normal((4, 6, 6, 16)).astype(np.float32)
    module, exact = MSCAM(dtype=dtype), MSCAM()
    variables = random_variables(module, x, dtype=np.float32)
    result, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
    expected, kept = exact.apply(variables, x, train=True, mutable=["batch_stats"])
    assert result.dtype == dtype
    digits = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float32(result), expected, atol=16 * digits, rtol=16 * digits)
    for value, other in zip(jax.tree.leaves(updates), jax.tree.leaves(kept), strict=True):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, other, atol=4 * digits, rtol=4 * digits)


def test_parameters_may_be_boxed_in_training():
    x = normal(LONG, 1).astype(np.float32)
    init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    boxed = MSCAM(kernel_init=init)
    variables = boxed.init(jax.random.key(0), x)
    result, _ = boxed.apply(variables, x, train=True, mutable=["batch_stats"])
    plain = nn.meta.unbox(variables)
    expected, _ = MSCAM().apply(plain, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(result, expected)


def test_a_subclass_of_the_norm_is_called():
    class Own(BatchNorm):
        @nn.compact
        def __call__(self, x, train=False):
            return super().__call__(x, train)

    x = normal(LONG, 1).astype(np.float32)
    variables = MSCAM().init(jax.random.key(0), x)
    result, _ = MSCAM(norm=Own).apply(variables, x, train=True, mutable=["batch_stats"])
    expected, _ = MSCAM().apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["expand", "expand_norm"])
def test_a_missing_layer_is_named_in_training(layer):
    x = normal(LONG, 1).astype(np.float32)
    variables = MSCAM().init(jax.random.key(0), x)
    params = {**variables["params"], "local": {**variables["params"]["local"]}}
    del params["local"][layer]
    with pytest.raises(Exception, match=layer):
        MSCAM().apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])


def test_the_rule_derives_the_statistics_of_these_tests():
    """Check that the shapes above take the shortcut."""
    module = MSCAM()
    variables = module.init(jax.random.key(0), jnp.ones(LONG))

    def products(implementation):
        def loss(params):
            given = {**variables, "params": params}
            own = module.clone(implementation=implementation)
            return own.apply(given, jnp.ones(LONG), True, mutable=["batch_stats"])[0].sum()

        return str(jax.make_jaxpr(loss)(variables["params"])).count("dot_general[")

    assert products("auto") > products("plain")
    assert not takes_shortcut("explicit_sigmoid", "auto", train=True)
