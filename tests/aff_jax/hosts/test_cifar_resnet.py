"""CIFARResNet: parameter counts, depth, a block in NumPy, the deep stem, jit and pmap."""

import functools

import chex
import jax
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.registry import MODELS
from tests.aff_jax import oracle
from tests.aff_jax.hosts.families import (
    attention_parameters,
    count_parameters,
    normal,
    shapes_of,
    small,
)
from tests.aff_jax.random_variables import random_variables

BRANCHES = {"add": 0, "aff": 2, "iaff": 4}
DEPTHS = (8, 14, 20, 32, 44, 56, 110)


def count(depth, classes, branches, width=1):
    """Return the number of parameters by the description of the network."""
    total, before = 3 * 9 * 16 * width, 16 * width
    for c in (16 * width, 32 * width, 64 * width):
        for _ in range((depth - 2) // 6):
            total += 2 * before + 9 * before * c + 2 * c + 9 * c * c
            total += attention_parameters(c, branches) + (before * c if before != c else 0)
            before = c
    return total + 2 * before + before * classes + classes


# Trainable parameters of open-aff's MXNet networks with 100 classes.
PUBLISHED = [
    ("cifar_resnet8", 1, "add", 83_700),
    ("cifar_resnet8", 1, "aff", 89_916),
    ("cifar_resnet8", 1, "iaff", 96_132),
    pytest.param("cifar_resnet32", 4, "add", 7_450_276, marks=pytest.mark.slow),
    ("cifar_resnet32", 4, "aff", 7_897_156),
    pytest.param("cifar_resnet32", 4, "iaff", 8_344_036, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "width", "fusion", "expected"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name, width, fusion, expected):
    model = create_model(name, fusion, num_classes=100, width=width)
    depth = int(name.removeprefix("cifar_resnet"))
    assert count_parameters(model) == count(depth, 100, BRANCHES[fusion], width) == expected


@pytest.mark.parametrize(
    "depth",
    [14, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (20, 44, 56, 110))],
)
def test_parameter_counts_of_other_depths_follow_the_formula(depth):
    for fusion in ("add", "aff"):
        model = create_model(f"cifar_resnet{depth}", fusion, num_classes=10)
        assert count_parameters(model) == count(depth, 10, BRANCHES[fusion])


def test_the_blocks_of_a_registered_name_follow_from_its_depth():
    assert {name for name in MODELS if name.startswith("cifar_resnet") and "x" not in name} == {
        f"cifar_resnet{depth}" for depth in DEPTHS
    }
    for depth in DEPTHS:
        blocks = create_model(f"cifar_resnet{depth}").blocks_per_stage
        assert blocks == ((depth - 2) // 6,) * 3


def test_depth_is_six_times_the_blocks_plus_two():
    for name, depth in (("cifar_resnet8", 8), ("cifar_resnet14", 14)):
        params = shapes_of(create_model(name, "add"))["params"]
        weighted = [
            path
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
            if path[-1].key == "kernel" and path[-2].key != "downsample"
        ]
        assert len(weighted) == depth


def test_a_block_equals_the_formula_in_numpy():
    """Check the first block of a network with AFF, from the activations before and after it."""
    x = normal((2, 6, 6, 3))
    model = small("cifar_resnet8")
    variables = random_variables(model, x, dtype=np.float32)
    _, seen = jax.jit(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
    )(variables, x)
    seen = seen["intermediates"]
    params, stats = (variables[kind]["stage1_block0"] for kind in ("params", "batch_stats"))
    stem, residual = seen["stem"]["__call__"][0], seen["stage1_block0"]["conv2"]["__call__"][0]
    # Single precision, sums over 16 channels.
    close = {"rtol": 1e-5, "atol": 1e-5}
    fused = oracle.aff(np.float64(residual), np.float64(stem), params["fuse"], stats["fuse"])
    np.testing.assert_allclose(seen["stage1_block0"]["__call__"][0], fused, **close)
    norm1 = oracle.batch_norm(np.float64(stem), params["norm1"], stats["norm1"], False)
    np.testing.assert_allclose(seen["stage1_block0"]["norm1"]["__call__"][0], norm1, **close)


def test_deep_stem_has_three_convolutions():
    model = create_model("cifar_resnet8", deep_stem=True, width=2)
    params = shapes_of(model)["params"]
    kernels = params["deep_stem1"]["conv"], params["deep_stem2"]["conv"], params["stem"]
    assert [k["kernel"].shape for k in kernels] == [(3, 3, 3, 16), (3, 3, 16, 16), (3, 3, 16, 32)]


@pytest.mark.slow
class VariantTest(chex.TestCase):
    """Results agree with and without jit, on a device, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants_agree(self):
        apply, variables, x, expected = trained()
        result, new = self.variant(apply)(variables, x)
        # Single against double precision through 23 layers.
        np.testing.assert_allclose(result, expected[0], rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(new, expected[1], rtol=1e-4, atol=1e-5)


@functools.cache
def trained():
    """Return a function of a network in training mode, its arguments, and its float64 result."""
    x = normal((4, 8, 8, 1))
    model = small("cifar_resnet8")
    variables = random_variables(model, x, dtype=np.float32)

    def apply(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    with jax.enable_x64(True):
        expected = jax.jit(apply)(*jax.tree.map(np.float64, (variables, x)))
        return apply, variables, x, jax.tree.map(np.asarray, expected)
