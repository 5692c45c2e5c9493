"""CIFARResNeXt: pinned counts, depth, widths and sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.cifar_resnext import CIFARResNeXt
from tests.aff_jax.random_variables import random_variables

TINY = {
    "blocks_per_stage": (1, 1),
    "base_channels": 8,
    "groups": 2,
    "width_per_group": 32,
    "num_classes": 3,
}


def normal(shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def shapes_of(model, shape=(1, 32, 32, 3)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("name", "fusion", "count"),
    # Trainable parameters of open-aff's MXNet networks with 100 classes.
    [
        ("cifar_resnext29_32x4d", "aff", 5_934_468),
        ("cifar_resnext38_32x4d", "aff", 7_770_148),
        ("cifar_resnext38_32x4d", "iaff", 9_192_100),
        ("cifar_resnext47_32x4d", "aff", 9_605_828),
    ],
)
def test_parameter_counts(name, fusion, count):
    params = shapes_of(create_model(name, fusion, num_classes=100))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("depth", [29, 38, 47])
def test_depth_is_nine_times_the_blocks_plus_two(depth):
    params = shapes_of(create_model(f"cifar_resnext{depth}_32x4d", "add"))["params"]
    weighted = [
        path
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel" and path[1].key != "downsample"
    ]
    assert len(weighted) == depth


def test_groups_widths_and_reduction_are_the_authors():
    params = shapes_of(create_model("cifar_resnext29_32x4d"))["params"]
    assert params["stem"]["conv"]["kernel"].shape == (3, 3, 3, 64)
    # 32 groups of 4, 8 and 16 channels between 64, 128 and 256 channels, times four.
    for stage, width in ((1, 4), (2, 8), (3, 16)):
        block = params[f"stage{stage}_block1"]
        assert block["conv2"]["conv"]["kernel"].shape == (3, 3, width, 32 * width)
        channels = 64 * width
        assert block["conv3"]["conv"]["kernel"].shape == (1, 1, 32 * width, channels)
        reduce = block["fuse"]["local"]["reduce"]["kernel"]
        assert reduce.shape == (channels, channels // 16)


@pytest.mark.parametrize("size", [(1, 1), (7, 33)])
def test_sizes_are_halved_and_rounded_up(size):
    x = normal((2, *size, 3))
    model = CIFARResNeXt(fusion="add", **TINY)
    variables = random_variables(model, x, dtype=np.float32)
    logits, seen = jax.jit(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
    )(variables, x)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
    names = "stem", "stage1_block0", "stage2_block0"
    sizes = [seen["intermediates"][name]["__call__"][0].shape[1:3] for name in names]
    assert sizes == [size, size, ((size[0] + 1) // 2, (size[1] + 1) // 2)]


def test_fusion_start_leaves_earlier_stages_to_addition():
    params = shapes_of(CIFARResNeXt(fusion_start=2, **TINY))["params"]
    assert {name for name, block in params.items() if "fuse" in block} == {"stage2_block0"}
