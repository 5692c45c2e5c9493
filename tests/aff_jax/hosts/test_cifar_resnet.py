"""CIFARResNet: parameter counts, depth, a block in NumPy, the deep stem, jit and pmap."""

import functools

import chex
import jax
import numpy as np
import pytest

from aff_jax import create_model
from tests.aff_jax import oracle
from tests.aff_jax.hosts.families import count_parameters, normal, shapes_of, small
from tests.aff_jax.random_variables import random_variables


@pytest.mark.parametrize(
    ("name", "width", "fusion", "count"),
    # Trainable parameters of open-aff's MXNet networks with 100 classes.
    [
        ("cifar_resnet8", 1, "add", 83_700),
        ("cifar_resnet8", 1, "aff", 89_916),
        ("cifar_resnet8", 1, "iaff", 96_132),
        ("cifar_resnet32", 4, "add", 7_450_276),
        ("cifar_resnet32", 4, "aff", 7_897_156),
        ("cifar_resnet32", 4, "iaff", 8_344_036),
    ],
)
def test_parameter_counts(name, width, fusion, count):
    model = create_model(name, fusion, num_classes=100, width=width)
    assert count_parameters(model) == count


def test_depth_is_six_times_the_blocks_plus_two():
    for name, depth in (("cifar_resnet8", 8), ("cifar_resnet14", 14), ("cifar_resnet20", 20)):
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
