"""InceptionNet: parameter counts by a closed formula, a block in NumPy, jit and pmap."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.inception import InceptionNet
from tests.aff_jax import oracle
from tests.aff_jax.hosts.families import (
    attention_parameters,
    convolve,
    count_parameters,
    normal,
    pool,
    small,
)
from tests.aff_jax.random_variables import random_variables


def count(blocks, classes, branches, width=1, area=25):
    """Return the number of parameters by the network's description. No count is published."""
    total, before = 3 * 9 * 16 * width, 16 * width
    for c in (16 * width, 32 * width, 64 * width):
        for _ in range(blocks):
            layers = [
                2 * i + (9 + area) * i * c + 2 * 2 * c + attention_parameters(c, branches)
                for i in (before, c)
            ]
            total += sum(layers) + (before * c if before != c else 0)
            before = c
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("inception8", 1),
        pytest.param("inception14", 2, marks=pytest.mark.slow),
        pytest.param("inception20", 3, marks=pytest.mark.slow),
        pytest.param("inception26", 4, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("fusion", "branches"), [("add", 0), ("aff", 2), ("iaff", 4)])
def test_parameter_counts(name, blocks, fusion, branches):
    model = create_model(name, fusion, num_classes=100)
    assert count_parameters(model) == count(blocks, 100, branches)


def test_the_blocks_of_a_registered_name_follow_from_its_depth():
    for depth in (8, 14, 20, 26):
        assert create_model(f"inception{depth}").blocks_per_stage == ((depth - 2) // 6,) * 3


# The results of the formula as literals, so that formula and network cannot change together.
@pytest.mark.parametrize(
    ("fields", "terms", "expected"),
    [
        ({}, {}, 301_828),
        ({"dilated": True}, {"area": 9}, 170_756),
        ({"width": 2}, {"width": 2}, 1_187_236),
    ],
)
def test_parameter_counts_of_the_options(fields, terms, expected):
    found = count_parameters(create_model("inception8", num_classes=100, **fields))
    assert found == count(1, 100, 2, **terms) == expected


@pytest.mark.parametrize("dilated", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_block_equals_the_formula_in_numpy(dilated):
    """Check a strided block with AFF in double precision, from the activations before and after."""
    x = np.float64(normal((2, 5, 6, 3)))
    model = InceptionNet(num_classes=3, dilated=dilated, param_dtype=jnp.float64)
    with jax.enable_x64(True):
        variables = random_variables(model, x)
        _, seen = jax.jit(
            lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
        )(variables, x)
    seen = jax.tree.map(np.asarray, seen["intermediates"])
    params, stats = (variables[kind]["stage2_block0"] for kind in ("params", "batch_stats"))

    def layer(z, name, strides):
        own, kept = params[name], stats[name]
        three = convolve(z, own["conv3x3"]["kernel"], strides)
        five = convolve(z, own["conv5x5"]["kernel"], strides, dilation=2 if dilated else 1)
        three = oracle.batch_norm(three, own["norm3x3"], kept["norm3x3"], False)
        five = oracle.batch_norm(five, own["norm5x5"], kept["norm5x5"], False)
        return oracle.aff(five, three, own["fuse"], kept["fuse"])

    def active(z, name):
        return oracle.relu(oracle.batch_norm(z, params[name], stats[name], False))

    before = seen["stage1_block0"]["__call__"][0]
    first = layer(active(before, "norm1"), "conv1", 2)
    second = layer(active(first, "norm2"), "conv2", 1)
    skip = pool(before) @ params["downsample"]["kernel"][0, 0]
    block = seen["stage2_block0"]
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(block["conv1"]["__call__"][0], first, **close)
    np.testing.assert_allclose(block["__call__"][0], second + skip, **close)


@functools.cache
def trained():
    """Return a function of a network in training mode, its arguments, and its float64 result."""
    x = normal((4, 8, 8, 1))
    model = small("inception8")
    variables = random_variables(model, x, dtype=np.float32)

    def apply(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    with jax.enable_x64(True):
        expected = jax.jit(apply)(*jax.tree.map(np.float64, (variables, x)))
        return apply, variables, x, jax.tree.map(np.asarray, expected)


@pytest.mark.slow
class VariantTest(chex.TestCase):
    """Results agree with and without jit, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_variants_agree(self):
        apply, variables, x, expected = trained()
        result, new = self.variant(apply)(variables, x)
        # Single against double precision through 38 layers.
        np.testing.assert_allclose(result, expected[0], rtol=1e-3, atol=1e-3)
        chex.assert_trees_all_close(new, expected[1], rtol=1e-3, atol=1e-4)
