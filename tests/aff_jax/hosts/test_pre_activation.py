"""Pre-activation block and host: skip connection, formula in NumPy, stem and input of the head."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import BatchNorm
from aff_jax.fusion.baselines import Add
from aff_jax.hosts.pre_activation import PreActivationBlock, skip_connection
from aff_jax.nn.convolution import make_conv
from tests.aff_jax import oracle
from tests.aff_jax.hosts.families import convolve, normal, pool, small
from tests.aff_jax.random_variables import random_variables

CONV = partial(make_conv, param_dtype=jnp.float64)
NORM = partial(BatchNorm, param_dtype=jnp.float64)


class Skip(nn.Module):
    """The skip connection alone."""

    channels: int
    strides: int

    @nn.compact
    def __call__(self, x):
        return skip_connection(x, self.channels, self.strides, CONV)


def test_the_skip_connection_is_the_identity_if_the_shape_stays():
    x = normal((1, 3, 3, 4))
    assert Skip(4, 1).apply({}, x) is x


@pytest.mark.parametrize(("channels", "strides"), [(6, 1), (4, 2), (6, 2)])
def test_the_skip_connection_pools_and_projects_without_a_norm(channels, strides):
    x = np.float64(normal((2, 5, 4, 4)))
    with jax.enable_x64(True):
        variables = random_variables(Skip(channels, strides), x)
        result = Skip(channels, strides).apply(variables, x)
    (path,) = [path for path, _ in jax.tree.leaves_with_path(variables)]
    assert [key.key for key in path] == ["params", "downsample", "kernel"]
    pooled = pool(x) if strides == 2 else x
    expected = pooled @ variables["params"]["downsample"]["kernel"][0, 0]
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_a_block_equals_the_formula_in_numpy():
    x = np.float64(normal((2, 5, 4, 4)))
    block = PreActivationBlock(
        6, conv_factory=CONV, norm_factory=NORM, fusion_factory=Add, strides=2
    )
    with jax.enable_x64(True):
        variables = random_variables(block, x)
        result = block.apply(variables, x)
    params, stats = variables["params"], variables["batch_stats"]

    def layer(z, number, strides):
        norm = f"norm{number}"
        z = oracle.relu(oracle.batch_norm(z, params[norm], stats[norm], train=False))
        return convolve(z, params[f"conv{number}"]["kernel"], strides)

    skip = pool(x) @ params["downsample"]["kernel"][0, 0]
    expected = layer(layer(x, 1, 2), 2, 1) + skip
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_without_blocks_a_host_is_its_stem_and_its_head():
    """Compare with NumPy. The first norm has neither scale nor bias."""
    images = normal((2, 3, 4, 3))
    host = small("cifar_resnet8", "add", blocks_per_stage=(0,))
    variables = random_variables(host, images, dtype=np.float32)
    params, stats = variables["params"], variables["batch_stats"]
    identity = {"scale": np.ones(3), "bias": np.zeros(3)}
    x = oracle.batch_norm(np.float64(images), identity, stats["input_norm"], train=False)
    x = convolve(x, params["stem"]["kernel"])
    x = oracle.relu(oracle.batch_norm(x, params["final_norm"], stats["final_norm"], train=False))
    expected = x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]
    # Single precision against double precision.
    np.testing.assert_allclose(host.apply(variables, images), expected, rtol=1e-5, atol=1e-5)
