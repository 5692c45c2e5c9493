"""InceptionNet: counts by a closed formula, a layer and a block in NumPy, jit and pmap, sizes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.inception import InceptionNet
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables


def normal(shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def shapes_of(model, shape=(1, 8, 8, 3)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


def attention(c, branches):
    """Parameters of so many branches of MS-CAM on c channels, r = 4: two layers, two norms."""
    h = c // 4
    return branches * (c * h + h + 2 * h + h * c + c + 2 * c)


def count(blocks, classes, branches, width=1, area=25):
    """Parameters of the network, from its description; no count is published."""
    total, before = 3 * 9 * 16 * width, 16 * width
    for c in (16 * width, 32 * width, 64 * width):
        for _ in range(blocks):
            layers = [
                2 * i + (9 + area) * i * c + 2 * 2 * c + attention(c, branches) for i in (before, c)
            ]
            total += sum(layers) + (before * c if before != c else 0)
            before = c
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("inception8", 1), ("inception14", 2), ("inception20", 3), ("inception26", 4)],
)
@pytest.mark.parametrize(("fusion", "branches"), [("add", 0), ("aff", 2), ("iaff", 4)])
def test_parameter_counts(name, blocks, fusion, branches):
    params = shapes_of(create_model(name, fusion, num_classes=100))["params"]
    found = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found == count(blocks, 100, branches)


# The formula's own results, as literals, so that formula and network cannot drift together.
@pytest.mark.parametrize(
    ("fields", "terms", "expected"),
    [
        ({}, {}, 301_828),
        ({"dilated": True}, {"area": 9}, 170_756),
        ({"width": 2}, {"width": 2}, 1_187_236),
    ],
)
def test_parameter_counts_of_the_options(fields, terms, expected):
    params = shapes_of(create_model("inception8", num_classes=100, **fields))["params"]
    found = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found == count(1, 100, 2, **terms) == expected


def convolve(x, kernel, strides=1, dilation=1):
    """A convolution padded by half its span, channels last, one window after another."""
    size = kernel.shape[0]
    margin = size // 2 * dilation
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = (-(-length // strides) for length in x.shape[1:3])
    result = np.zeros((len(x), height, width, kernel.shape[-1]))
    for row, column in np.ndindex(height, width):
        top, left = row * strides, column * strides
        window = padded[
            :,
            top : top + (size - 1) * dilation + 1 : dilation,
            left : left + (size - 1) * dilation + 1 : dilation,
        ]
        result[:, row, column] = np.tensordot(window, kernel, 3)
    return result


@pytest.mark.parametrize("dilated", [False, True])
def test_a_block_equals_the_formula_in_numpy(dilated):
    """A strided block with AFF in double precision, from the activations on both sides of it."""
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
        five = convolve(z, own["conv5x5"]["kernel"], strides, 2 if dilated else 1)
        three = oracle.batch_norm(three, own["norm3x3"], kept["norm3x3"], False)
        five = oracle.batch_norm(five, own["norm5x5"], kept["norm5x5"], False)
        return oracle.aff(three, five, own["fuse"], kept["fuse"])

    def active(z, name):
        return oracle.relu(oracle.batch_norm(z, params[name], stats[name], False))

    before = seen["stage1_block0"]["__call__"][0]
    first = layer(active(before, "norm1"), "conv1", 2)
    second = layer(active(first, "norm2"), "conv2", 1)
    rows, columns = range(0, 5, 2), range(0, 6, 2)
    pooled = [[before[:, i : i + 2, j : j + 2].mean((1, 2)) for j in columns] for i in rows]
    skip = np.moveaxis(np.asarray(pooled), 2, 0) @ params["downsample"]["kernel"][0, 0]
    block = seen["stage2_block0"]
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(block["conv1"]["__call__"][0], first, **close)
    np.testing.assert_allclose(block["__call__"][0], second + skip, **close)


@functools.cache
def trained():
    """A network in training mode, its arguments, and its result in double precision."""
    x = normal((4, 8, 8, 1))
    model = create_model("inception8", num_classes=3)
    variables = random_variables(model, x, dtype=np.float32)

    def apply(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    with jax.enable_x64(True):
        expected = jax.jit(apply)(*jax.tree.map(np.float64, (variables, x)))
        return apply, variables, x, jax.tree.map(np.asarray, expected)


class VariantTest(chex.TestCase):
    """The same numbers with and without jit, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_variants_agree(self):
        apply, variables, x, expected = trained()
        result, new = self.variant(apply)(variables, x)
        # Single against double precision through 38 layers.
        np.testing.assert_allclose(result, expected[0], rtol=1e-3, atol=1e-3)
        chex.assert_trees_all_close(new, expected[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (7, 33)])
def test_takes_odd_and_tiny_sizes(size):
    x = normal((2, *size, 3))
    model = create_model("inception8", "add", num_classes=3)
    logits = jax.jit(model.apply)(random_variables(model, x, dtype=np.float32), x)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()


def test_fusion_start_leaves_earlier_stages_to_addition():
    params = shapes_of(create_model("inception8", fusion_start=3))["params"]
    fused = {name for name in params if "block" in name and "fuse" in params[name]["conv1"]}
    assert fused == {"stage3_block0"}


def test_features_are_the_last_map_of_each_stage_and_there_is_no_head():
    model = create_model("inception14", features=True)
    x = jnp.zeros((2, 7, 9, 3))
    pyramid, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert [z.shape for z in pyramid] == [(2, 7, 9, 16), (2, 4, 5, 32), (2, 2, 3, 64)]
    assert not {"norm", "head"} & set(variables["params"])


def test_refuses_images_without_a_batch_axis():
    with pytest.raises(ValueError, match=r"InceptionNet: expected images of shape .* got \(8, 8"):
        create_model("inception8").init(jax.random.key(0), jnp.ones((8, 8, 3)))
