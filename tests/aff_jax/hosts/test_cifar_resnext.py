"""CIFARResNeXt: parameter counts, depth and widths."""

import jax
import pytest

from aff_jax import create_model
from tests.aff_jax.hosts.families import count_parameters, shapes_of


@pytest.mark.parametrize(
    ("name", "fusion", "count"),
    # Trainable parameters of open-aff's MXNet networks with 100 classes.
    [
        ("cifar_resnext29_32x4d", "aff", 5_934_468),
        ("cifar_resnext38_32x4d", "aff", 7_770_148),
        pytest.param("cifar_resnext38_32x4d", "iaff", 9_192_100, marks=pytest.mark.slow),
        pytest.param("cifar_resnext47_32x4d", "aff", 9_605_828, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts(name, fusion, count):
    assert count_parameters(create_model(name, fusion, num_classes=100)) == count


@pytest.mark.parametrize(
    "depth", [29, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (38, 47))]
)
def test_depth_is_nine_times_the_blocks_plus_two(depth):
    params = shapes_of(create_model(f"cifar_resnext{depth}_32x4d", "add"))["params"]
    weighted = [
        path
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel" and path[1].key != "downsample"
    ]
    assert len(weighted) == depth


def test_groups_widths_and_reduction_are_those_of_the_authors():
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
