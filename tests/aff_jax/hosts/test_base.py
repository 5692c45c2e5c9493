"""The behavior that all hosts share: sizes, feature maps, the first stage with fusions, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError
from flax.linen.initializers import ones, zeros

from aff_jax import AFF, create_model
from aff_jax.hosts.base import logits_dtype
from aff_jax.hosts.registry import model_classes
from tests.aff_jax.hosts.families import FAMILIES, normal, shapes_of, small
from tests.aff_jax.random_variables import random_variables

EACH_FAMILY = pytest.mark.parametrize("name", FAMILIES)
SEGMENTATION = ("fpn_resnet20", "unet_resnet20")


def test_every_class_of_hosts_has_a_small_network():
    assert {type(small(name, "add")) for name in FAMILIES} == set(model_classes())


@EACH_FAMILY
@pytest.mark.parametrize("size", [pytest.param((1, 1), marks=pytest.mark.slow), (7, 33)])
def test_takes_odd_and_tiny_sizes(name, size):
    x = normal((2, *size, 3))
    model = small(name, "add")
    logits = jax.jit(model.apply)(random_variables(model, x, dtype=np.float32), x)
    assert logits.shape == (2, *(size if name in SEGMENTATION else ()), 3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("name", "first", "widths"),
    [
        ("cifar_resnet14", 1, (16, 32, 64)),
        ("inception14", 1, (16, 32, 64)),
        ("fpn_resnet20", 1, (16, 32, 64)),
        ("unet_resnet20", 1, (16, 32, 64)),
        ("resnet18", 4, (64, 128, 256, 512)),
        ("resnet50_v1d", 4, (256, 512, 1024, 2048)),
        ("cifar_resnext29_32x4d", 1, (256, 512, 1024)),
    ],
)
def test_feature_maps_are_the_last_map_of_each_stage_and_there_is_no_head(name, first, widths):
    model = create_model(name, "add", features_only=True)
    x = jnp.zeros((2, 65, 58, 3))
    maps, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    strides = [first * 2**stage for stage in range(len(widths))]
    expected = [
        (2, -(-65 // stride), -(-58 // stride), width)
        for stride, width in zip(strides, widths, strict=True)
    ]
    assert [z.shape for z in maps] == expected
    assert not {"final_norm", "norm1", "head_conv", "head"} & set(variables["params"])


def test_feature_maps_are_those_of_the_classifier():
    """The variables of the classifier are valid for both. Those of the head are not read."""
    x = normal((2, 4, 4, 3))
    model = small("cifar_resnet8", "add")
    variables = random_variables(model, x, dtype=np.float32)

    @jax.jit
    def apply(variables):
        _, seen = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
        return seen, model.clone(features_only=True).apply(variables, x)

    seen, maps = apply(variables)
    for stage, z in enumerate(maps, start=1):
        expected = seen["intermediates"][f"stage{stage}_block0"]["__call__"][0]
        np.testing.assert_array_equal(z, expected)


@EACH_FAMILY
def test_stages_before_fusion_start_add(name):
    params = shapes_of(small(name, fusion_start=2))["params"]
    paths = {"/".join(key.key for key in path) for path, _ in jax.tree.leaves_with_path(params)}
    fused = {path.split("/")[0] for path in paths if "/local/" in path}
    if name in SEGMENTATION:
        assert fused == {"fuse2"}
    else:
        stages = range(2, len(small(name).blocks_per_stage) + 1)
        assert fused == {f"stage{stage}_block0" for stage in stages}


def test_stages_have_as_many_blocks_as_given():
    params = shapes_of(small("cifar_resnet8", "add", blocks_per_stage=(2, 0, 1, 1)))["params"]
    blocks = {name for name in params if name.startswith("stage")}
    assert blocks == {"stage1_block0", "stage1_block1", "stage3_block0", "stage4_block0"}


def test_takes_a_function_that_makes_a_fusion():
    model = small("cifar_resnet8", lambda **fields: AFF(gain=2.0, **fields))
    params = shapes_of(model)["params"]
    assert params["stage2_block0"]["fuse"]["local"]["reduce"]["kernel"].shape == (32, 8)


@pytest.mark.parametrize(("fields", "value"), [({}, 1), ({"head_init": zeros}, 0)])
def test_the_head_has_the_initializer_of_other_kernels_unless_it_is_given_one(fields, value):
    model = small("cifar_resnet8", "add", kernel_init=ones, **fields)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 1, 1, 3)))["params"]["head"])
    np.testing.assert_array_equal(init(jax.random.key(0))["kernel"], np.full((64, 3), value))


@EACH_FAMILY
def test_refuses_images_without_a_batch_axis(name):
    model = small(name, "add")
    message = rf"{type(model).__name__}: expected images of shape .* got \(8, 8, 3\)"
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.ones((8, 8, 3)))


@EACH_FAMILY
def test_refuses_grey_images_with_the_variables_of_color_images(name):
    model = small(name, "add")
    variables = shapes_of(model)
    for train in (False, True):
        with pytest.raises((ValueError, ScopeParamShapeError), match=r"channels|shape"):
            jax.eval_shape(
                lambda v, train=train: model.apply(
                    v, jnp.ones((2, 8, 8, 1)), train, mutable=["batch_stats"]
                ),
                variables,
            )


def test_refuses_raw_pixels():
    with pytest.raises(TypeError, match="CIFARResNet: expected floating-point images, got uint8"):
        small("cifar_resnet8").init(jax.random.key(0), jnp.ones((1, 8, 8, 3), jnp.uint8))


@EACH_FAMILY
def test_refuses_one_number_of_blocks_for_all_stages(name):
    with pytest.raises(
        TypeError, match="expected a sequence of integers as blocks_per_stage, got 2"
    ):
        small(name, blocks_per_stage=2)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(None, None), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_logits_are_at_least_float32(dtype, expected):
    assert logits_dtype(dtype) == expected


def test_no_classes_are_refused_with_the_field_for_feature_maps():
    with pytest.raises(ValueError, match=r"num_classes of at least 1, got 0.*features_only=True"):
        shapes_of(small("cifar_resnet8", num_classes=0))
