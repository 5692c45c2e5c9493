"""ResNetV1d: pinned counts, stem and skips, and where it fuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.resnet_v1d import ResNetV1d
from tests.aff_jax.random_variables import random_variables

TINY = {
    "blocks_per_stage": (1, 1),
    "base_channels": 8,
    "stem_width": 4,
    "fusion_start": 2,
    "num_classes": 3,
}


def normal(shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def shapes_of(model, shape=(1, 32, 32, 3)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


# Trainable parameters of open-aff's AFFResNet and AFFResNeXt, the paper's 30.3M, 35.1M, 29.9M and
# 34.7M. The deeper ones, with addition, are torchvision's and the deep stem's 19,232 more, as
# resnet50_v1d is ResNet-50.
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet50_v1d", {"add": 25_576_264, "aff": 30_373_192, "iaff": 35_170_120}),
        ("resnet101_v1d", {"add": 44_549_160 + 19_232}),
        ("resnet152_v1d", {"add": 60_192_808 + 19_232}),
        ("resnext50_32x4d_v1d", {"add": 25_156_776, "aff": 29_953_704, "iaff": 34_750_632}),
    ],
)
def test_parameter_counts(name, counts):
    for fusion, count in counts.items():
        params = shapes_of(create_model(name, fusion))["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_fuses_from_the_third_stage_on_with_a_reduction_of_16():
    params = shapes_of(create_model("resnet50_v1d"))["params"]
    fused = {name for name, block in params.items() if "fuse" in block}
    assert {name[:6] for name in fused} == {"stage3", "stage4"}
    assert len(fused) == 6 + 3
    assert params["stage3_block0"]["fuse"]["local"]["reduce"]["kernel"].shape == (1024, 64)


@pytest.mark.parametrize(("name", "width"), [("resnet50_v1d", 32), ("resnext50_32x4d_v1d", 64)])
def test_stem_has_three_convolutions(name, width):
    params = shapes_of(create_model(name, "add"))["params"]
    kernels = [params[f"stem{index}"]["conv"]["kernel"].shape for index in (1, 2, 3)]
    assert kernels == [(3, 3, 3, width), (3, 3, width, width), (3, 3, width, 2 * width)]


def test_stem_and_skips_equal_their_formulas_in_numpy():
    """Pools and sizes, from the activations around them, at an odd size."""
    x = np.float64(normal((2, 21, 25, 3)))
    model = ResNetV1d(param_dtype=jnp.float64, **TINY)
    with jax.enable_x64(True):
        variables = random_variables(model, x)
        _, seen = jax.jit(
            lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
        )(variables, x)
    seen = jax.tree.map(np.asarray, seen["intermediates"])
    stem = [seen[f"stem{index}"]["__call__"][0] for index in (1, 2, 3)]
    assert [z.shape for z in stem] == [(2, 11, 13, 4), (2, 11, 13, 4), (2, 11, 13, 8)]
    assert all((z >= 0).all() for z in stem)

    def windows(z, before, size):
        rows = range(0, z.shape[1], 2), range(0, z.shape[2], 2)
        return [
            [z[:, max(i - before, 0) : i + size, max(j - before, 0) : j + size] for j in rows[1]]
            for i in rows[0]
        ]

    def reduced(cells, reduce):
        return np.moveaxis(np.asarray([[reduce(c, (1, 2)) for c in row] for row in cells]), 2, 0)

    def pointwise(z, *path):
        return z @ variables["params"][path[0]][path[1]]["conv"]["kernel"][0, 0]

    # Double precision. The first stage keeps the size: its skip pools nothing.
    close = {"rtol": 1e-12, "atol": 1e-12}
    first = reduced(windows(stem[2], 1, 2), np.max)
    assert first.shape == (2, 6, 7, 8)
    for name in ("conv1", "downsample"):
        convolved = seen["stage1_block0"][name]["conv"]["__call__"][0]
        np.testing.assert_allclose(convolved, pointwise(first, "stage1_block0", name), **close)
    second = seen["stage1_block0"]["__call__"][0]
    convolved = seen["stage2_block0"]["downsample"]["conv"]["__call__"][0]
    assert convolved.shape == (2, 3, 4, 64)
    mean = reduced(windows(second, 0, 2), np.mean)
    np.testing.assert_allclose(convolved, pointwise(mean, "stage2_block0", "downsample"), **close)


def test_the_last_scale_starts_at_zero_as_in_the_published_recipe():
    assert create_model("resnet50_v1d").zero_init_last_scale


@pytest.mark.parametrize("size", [(1, 1), (7, 33)])
def test_takes_odd_and_tiny_sizes(size):
    x = normal((2, *size, 3))
    model = ResNetV1d(fusion="add", **TINY)
    logits = jax.jit(model.apply)(random_variables(model, x, dtype=np.float32), x)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
