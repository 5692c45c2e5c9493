"""CIFARResNet: pinned counts, jit and pmap, its options, and its errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, create_model
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables


def normal(shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def parameters(model, shape=(1, 32, 32, 3)):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


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
    assert parameters(create_model(name, fusion, num_classes=100, width=width)) == count


def test_depth_is_six_times_the_blocks_plus_two():
    for name, depth in (("cifar_resnet8", 8), ("cifar_resnet14", 14), ("cifar_resnet20", 20)):
        model = create_model(name, "add")
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
        weighted = [
            path
            for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
            if path[-1].key == "kernel" and path[-2].key != "downsample"
        ]
        assert len(weighted) == depth


def test_a_block_equals_the_formula_in_numpy():
    """The first block of a network with AFF, from the activations on both sides of it."""
    x = normal((2, 6, 6, 3))
    model = create_model("cifar_resnet8", num_classes=5)
    variables = random_variables(model, x, dtype=np.float32)
    _, seen = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    seen = seen["intermediates"]
    params, stats = (variables[kind]["stage1_block0"] for kind in ("params", "batch_stats"))
    stem, residual = seen["stem"]["__call__"][0], seen["stage1_block0"]["conv2"]["__call__"][0]
    # Single precision, sums over 16 channels.
    close = {"rtol": 1e-5, "atol": 1e-5}
    fused = oracle.aff(np.float64(residual), np.float64(stem), params["fuse"], stats["fuse"])
    np.testing.assert_allclose(seen["stage1_block0"]["__call__"][0], fused, **close)
    norm1 = oracle.batch_norm(np.float64(stem), params["norm1"], stats["norm1"], False)
    np.testing.assert_allclose(seen["stage1_block0"]["norm1"]["__call__"][0], norm1, **close)


def test_fusion_start_leaves_earlier_stages_to_addition():
    model = create_model("cifar_resnet8", fusion_start=3)
    params = random_variables(model, normal((1, 8, 8, 3)))["params"]
    assert [f"stage{s}_block0" for s in (1, 2, 3) if "fuse" in params[f"stage{s}_block0"]] == [
        "stage3_block0"
    ]


def test_deep_stem_has_three_convolutions():
    model = create_model("cifar_resnet8", deep_stem=True, width=2)
    params = random_variables(model, normal((1, 8, 8, 3)))["params"]
    kernels = params["deep_stem1"]["conv"], params["deep_stem2"]["conv"], params["stem"]
    assert [k["kernel"].shape for k in kernels] == [(3, 3, 3, 16), (3, 3, 16, 16), (3, 3, 16, 32)]


class VariantTest(chex.TestCase):
    """The same numbers with and without jit, on a device, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants_agree(self):
        x = normal((4, 8, 8, 1))
        model = create_model("cifar_resnet8", num_classes=3)
        variables = random_variables(model, x, dtype=np.float32)
        apply = self.variant(lambda v, x: model.apply(v, x, True, mutable=["batch_stats"]))
        result, new = apply(variables, x)
        with jax.enable_x64(True):
            wide = jax.tree.map(np.float64, (variables, x))
            expected, expected_new = model.apply(*wide, True, mutable=["batch_stats"])
        # Single against double precision through 23 layers.
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(new, expected_new, rtol=1e-4, atol=1e-5)


def test_takes_odd_and_tiny_sizes():
    model = create_model("cifar_resnet8", num_classes=3)
    for size in ((1, 1), (7, 33)):
        x = normal((2, *size, 3))
        logits, _ = jax.jit(model.init_with_output)(jax.random.key(0), x)
        assert logits.shape == (2, 3)
        assert np.isfinite(logits).all()


def test_takes_a_function_that_makes_a_fusion():
    model = create_model("cifar_resnet8", lambda **fields: AFF(gain=2.0, **fields), num_classes=3)
    params = random_variables(model, normal((1, 8, 8, 3)))["params"]
    assert params["stage2_block0"]["fuse"]["local"]["reduce"]["kernel"].shape == (32, 8)


def test_refuses_images_without_a_batch_axis():
    with pytest.raises(ValueError, match=r"CIFARResNet: expected images of shape .* got \(8, 8, 3"):
        create_model("cifar_resnet8").init(jax.random.key(0), jnp.ones((8, 8, 3)))


def test_refuses_raw_pixels():
    with pytest.raises(TypeError, match="CIFARResNet: expected floating-point images, got uint8"):
        create_model("cifar_resnet8").init(jax.random.key(0), jnp.ones((1, 8, 8, 3), jnp.uint8))


def test_features_are_the_last_map_of_each_stage_and_there_is_no_head():
    x = normal((2, 7, 9, 3))
    model = create_model("cifar_resnet14", features=True)
    pyramid, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert [z.shape for z in pyramid] == [(2, 7, 9, 16), (2, 4, 5, 32), (2, 2, 3, 64)]
    assert not {"norm", "head"} & set(variables["params"])


def test_features_are_those_of_the_classifier():
    """Its variables serve for both; what is beyond the last stage goes unread."""
    x = normal((2, 4, 4, 3))
    model = create_model("cifar_resnet8", "add", num_classes=3)
    variables = random_variables(model, x, dtype=np.float32)
    _, seen = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    pyramid = model.clone(features=True).apply(variables, x)
    for stage, z in enumerate(pyramid, start=1):
        expected = seen["intermediates"][f"stage{stage}_block0"]["__call__"][0]
        np.testing.assert_array_equal(z, expected)
