"""Adapting the first convolution to images with another number of channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.convert import adapt_channels
from tests.aff_jax.random_variables import random_variables


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet18", "resnet50_v1d", "inception8"])
def test_first_layers_fit_the_new_images(name):
    model = aff_jax.create_model(name, "add", blocks_per_stage=(0, 0, 0))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables = jax.tree.map(lambda s: jnp.ones(s.shape), shapes)
    for channels in (1, 5):
        images = jnp.zeros((1, 16, 16, channels))
        expected = jax.eval_shape(model.init, jax.random.key(0), images)
        adapted = adapt_channels(variables, channels)
        assert jax.tree.map(jnp.shape, adapted) == jax.tree.map(jnp.shape, expected)


def test_the_kernel_is_summed_or_repeated_as_in_timm():
    model = aff_jax.create_model("cifar_resnet8", "add", blocks_per_stage=(0, 0, 0))
    variables = random_variables(model, np.zeros((1, 8, 8, 3), np.float32), dtype=np.float32)
    kernel = variables["params"]["stem"]["kernel"]
    one = adapt_channels(variables, 1)["params"]["stem"]["kernel"]
    np.testing.assert_allclose(one[..., 0, :], kernel.sum(-2), rtol=1e-5, atol=1e-6)
    four = adapt_channels(variables, 4)["params"]["stem"]["kernel"]
    np.testing.assert_allclose(four, kernel[..., [0, 1, 2, 0], :] * 0.75, rtol=1e-6)
    same = adapt_channels(variables, 3)["params"]["stem"]["kernel"]
    np.testing.assert_array_equal(same, kernel)
    with pytest.raises(ValueError, match="at least one channel"):
        adapt_channels(variables, 0)
