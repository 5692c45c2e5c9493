"""ResNetV1d: parameter counts, stem and skips in NumPy, and the stages that fuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from tests.aff_jax.hosts.families import count_parameters, normal, pool, shapes_of, small
from tests.aff_jax.random_variables import random_variables


# Trainable parameters of open-aff's AFFResNet and AFFResNeXt, the paper's 30.3M, 35.1M, 29.9M and
# 34.7M. The counts of the deeper networks, with addition, are torchvision's plus 19,232 of the deep
# stem, as that of resnet50_v1d is that of ResNet-50 plus 19,232.
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet50_v1d", {"add": 25_576_264, "aff": 30_373_192, "iaff": 35_170_120}),
        pytest.param("resnet101_v1d", {"add": 44_549_160 + 19_232}, marks=pytest.mark.slow),
        pytest.param("resnet152_v1d", {"add": 60_192_808 + 19_232}, marks=pytest.mark.slow),
        pytest.param(
            "resnext50_32x4d_v1d",
            {"add": 25_156_776, "aff": 29_953_704, "iaff": 34_750_632},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_parameter_counts(name, counts):
    for fusion, count in counts.items():
        assert count_parameters(create_model(name, fusion)) == count


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
    """Check pools and sizes, from the activations around them, at an odd size."""
    x = np.float64(normal((2, 21, 25, 3)))
    model = small("resnet50_v1d", fusion_start=2, param_dtype=jnp.float64)
    with jax.enable_x64(True):
        variables = random_variables(model, x)
        _, seen = jax.jit(
            lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
        )(variables, x)
    seen = jax.tree.map(np.asarray, seen["intermediates"])
    stem = [seen[f"stem{index}"]["__call__"][0] for index in (1, 2, 3)]
    assert [z.shape for z in stem] == [(2, 11, 13, 4), (2, 11, 13, 4), (2, 11, 13, 8)]
    assert all((z >= 0).all() for z in stem)

    def max_pool(z):
        """Return maxima of 3x3 windows around every second row and column."""
        rows = [
            [
                z[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max((1, 2))
                for j in range(0, 13, 2)
            ]
            for i in range(0, 11, 2)
        ]
        return np.moveaxis(np.asarray(rows), 2, 0)

    def pointwise(z, *path):
        return z @ variables["params"][path[0]][path[1]]["conv"]["kernel"][0, 0]

    # Double precision. The first stage keeps the size: its skip has no pool.
    close = {"rtol": 1e-12, "atol": 1e-12}
    first = max_pool(stem[2])
    assert first.shape == (2, 6, 7, 8)
    for name in ("conv1", "downsample"):
        convolved = seen["stage1_block0"][name]["conv"]["__call__"][0]
        np.testing.assert_allclose(convolved, pointwise(first, "stage1_block0", name), **close)
    second = pool(seen["stage1_block0"]["__call__"][0])
    convolved = seen["stage2_block0"]["downsample"]["conv"]["__call__"][0]
    assert convolved.shape == (2, 3, 4, 64)
    np.testing.assert_allclose(convolved, pointwise(second, "stage2_block0", "downsample"), **close)


def test_the_last_scale_is_initialized_with_zeros_as_in_the_published_recipe():
    assert create_model("resnet50_v1d").zero_init_last_scale
