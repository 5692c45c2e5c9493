"""The arithmetic of folding, against the formula in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.inference.find_foldings import find_foldings
from aff_jax.inference.folding import NORMS, Folding, apply_folded, fold

GAMMA, BETA, MEAN, VAR = np.random.default_rng(0).uniform(1, 2, (4, 3)).astype(np.float32)
KERNEL = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
FACTOR = GAMMA / np.sqrt(VAR + 0.1)
SHIFT = BETA - MEAN * FACTOR


def variables(with_bias):
    """Return the variables of a dense layer and a norm, NumPy arrays."""
    layer = {"kernel": KERNEL} | ({"bias": np.float32([1, 2, 3])} if with_bias else {})
    return {
        "params": {"layer": layer, "norm": {"scale": GAMMA, "bias": BETA}},
        "batch_stats": {"norm": {"mean": MEAN, "var": VAR}},
    }


@pytest.mark.parametrize("with_bias", [True, False])
def test_kernel_and_bias_are_multiplied_and_the_shift_is_added(with_bias):
    folded = fold(variables(with_bias), {("norm",): Folding(("layer",), 0.1, with_bias)})
    layer = folded["params"].pop("layer")
    np.testing.assert_allclose(layer["kernel"], KERNEL * FACTOR, rtol=1e-6)
    if with_bias:
        bias = np.float32([1, 2, 3]) * FACTOR + SHIFT
        np.testing.assert_allclose(layer["bias"], bias, rtol=1e-5)
        assert folded == {"params": {}}
    else:
        np.testing.assert_allclose(folded[NORMS]["norm"]["shift"], SHIFT, rtol=1e-5)
        assert folded[NORMS]["norm"].keys() == {"shift"}


def test_without_a_layer_factor_and_shift_remain():
    folded = fold(variables(True), {("norm",): Folding(None, 0.1)})
    np.testing.assert_array_equal(folded["params"]["layer"]["kernel"], KERNEL)
    np.testing.assert_allclose(folded[NORMS]["norm"]["factor"], FACTOR, rtol=1e-6)
    np.testing.assert_allclose(folded[NORMS]["norm"]["shift"], SHIFT, rtol=1e-5)


def test_a_flax_norm_without_parameters_keeps_the_dtype_of_its_input():
    module = nn.BatchNorm(True, use_scale=False, use_bias=False)
    x = jnp.ones((2, 3), jnp.bfloat16)
    variables = module.init(jax.random.key(0), x)
    foldings = find_foldings(module.apply, variables, (x,))
    result = apply_folded(module.apply, foldings, fold(variables, foldings), x)
    assert result.dtype == module.apply(variables, x).dtype == jnp.bfloat16
