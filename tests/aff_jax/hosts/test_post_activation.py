"""Residual blocks with ReLU after the fusion: in NumPy, their skips, initial scales, and errors."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.initializers import he_normal, ones

from aff_jax import AFF, BatchNorm
from aff_jax.fusion.baselines import Add
from aff_jax.hosts.post_activation import BasicBlock, Bottleneck
from aff_jax.nn.convolution import ConvNorm
from tests.aff_jax import oracle
from tests.aff_jax.hosts.families import convolve, normal, pool, shapes_of, small
from tests.aff_jax.random_variables import random_variables

INIT = he_normal()


def make_block(block, fusion=AFF, param_dtype=jnp.float32, kernel_init=INIT, **fields):
    layer = {"kernel_init": kernel_init, "param_dtype": param_dtype}
    return block(
        conv_norm_factory=partial(ConvNorm, activation=nn.relu, **layer),
        norm=BatchNorm,
        fusion_factory=partial(fusion, **layer) if fusion is AFF else fusion,
        **fields,
    )


@pytest.mark.parametrize("average_skip", [False, True])
@pytest.mark.parametrize(
    ("block", "options"), [(BasicBlock, {}), (Bottleneck, {"groups": 2, "width_per_group": 32})]
)
def test_a_block_equals_the_formula_in_numpy(block, options, average_skip):
    x = np.float64(normal((2, 5, 6, 6)))
    options = {**options, "average_skip": average_skip}
    module = make_block(block, channels=8, strides=2, param_dtype=jnp.float64, **options)
    with jax.enable_x64(True):
        variables = random_variables(module, x)
        result, seen = jax.jit(
            lambda v, x: module.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
        )(variables, x)
    params, stats = variables["params"], variables["batch_stats"]

    def conv_norm(z, name, **fields):
        z = convolve(z, params[name]["conv"]["kernel"], **fields)
        return oracle.batch_norm(z, params[name]["norm"], stats[name]["norm"], train=False)

    if block is BasicBlock:
        z = oracle.relu(conv_norm(x, "conv1", strides=2))
        residual = conv_norm(z, "conv2")
    else:
        z = oracle.relu(conv_norm(x, "conv1"))
        z = oracle.relu(conv_norm(z, "conv2", strides=2, groups=2))
        residual = conv_norm(z, "conv3")
    identity = (
        conv_norm(pool(x), "downsample") if average_skip else conv_norm(x, "downsample", strides=2)
    )
    fused = oracle.aff(residual, identity, params["fuse"], stats["fuse"])
    seen = {name: seen["intermediates"][name]["__call__"][0] for name in ("downsample", "fuse")}
    # Double precision.
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(seen["downsample"], identity, **close)
    np.testing.assert_allclose(seen["fuse"], fused, **close)
    np.testing.assert_allclose(result, oracle.relu(fused), **close)


@pytest.mark.parametrize(
    ("block", "channels", "projects"),
    [(BasicBlock, 6, False), (Bottleneck, 24, False), (Bottleneck, 6, True)],
)
def test_a_block_that_keeps_the_shape_keeps_its_input_as_the_identity(block, channels, projects):
    params = shapes_of(make_block(block, channels=6), (1, 5, 5, channels))["params"]
    assert ("downsample" in params) == projects


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_with_a_zero_last_scale_a_block_starts_as_its_skip(block):
    module = make_block(block, Add, channels=2, zero_init_last_scale=True, kernel_init=ones)
    x = normal((1, 4, 4, 2 if block is BasicBlock else 8))
    result, variables = jax.jit(module.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(result, oracle.relu(x))
    assert variables["params"]["conv1"]["norm"]["scale"].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "bottelneck"}, "unknown block 'bottelneck'. Did you mean 'bottleneck'"),
        ({"groups": 2}, "ResNet: expected groups=1 and .* block='basic', got 2 and 64"),
        ({"width_per_group": 4}, "ResNet: expected groups=1 and .* got 1 and 4"),
    ],
)
def test_refuses_blocks_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(small("resnet18", **arguments))
