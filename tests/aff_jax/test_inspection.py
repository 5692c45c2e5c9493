"""The structure of a module: layers by path, variables, norms, and numbers read from variables."""

import math
from unittest.mock import Mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from aff_jax import AFF, create_model
from aff_jax.inspection import (
    count_flops,
    count_parameters,
    example_images,
    image_channels,
    inspect_module,
)
from tests.aff_jax.hosts.families import shapes_of, small

IMAGES = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)


def test_layers_are_found_by_path_with_their_spatial_axes():
    x = jnp.zeros((2, 3, 3, 8))
    structure = inspect_module(AFF(), (x, x))
    assert type(structure.layers[()].module) is AFF
    assert structure.layers["local", "reduce"].spatial_axes == 2
    assert structure.layers["global", "expand_norm"].spatial_axes == 2
    assert isinstance(structure.layers["local", "expand"].module, nn.Dense)
    line = jnp.zeros((2, 8))
    assert inspect_module(AFF(), (line, line)).layers["local", "reduce"].spatial_axes == 0


def test_variables_have_shapes_and_norms_are_those_with_a_running_mean():
    structure = inspect_module(AFF(), (jnp.zeros((2, 8)), jnp.zeros((2, 8))))
    shapes = {"/".join(path): leaf.shape for path, leaf in structure.leaves("params")}
    assert shapes["local/reduce/kernel"] == (8, 2)
    assert shapes["local/expand/kernel"] == (2, 8)
    branches, norms = ("local", "global"), ("reduce_norm", "expand_norm")
    assert structure.norms == {(branch, norm) for branch in branches for norm in norms}
    assert structure.leaves("cache") == []


def test_flags_stay_python_values():
    class Branching(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(3 if train else 5, name="dense")(x)

    structure = inspect_module(Branching(), (jnp.zeros((1, 2)), True))
    assert dict(structure.leaves("params"))["dense", "kernel"].shape == (2, 3)


def test_only_networks_of_create_model_have_example_images():
    (images,) = example_images(create_model("cifar_resnet8"), channels=1)
    assert images.shape == (2, 64, 64, 1)
    with pytest.raises(ValueError, match="expected example inputs for AFF, got none"):
        inspect_module(AFF(), ())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cifar_resnet8", {}),
        ("cifar_resnet8", {"deep_stem": True}),
        ("cifar_resnext29_32x4d", {}),
        ("resnet18", {}),
        ("resnet50_v1d", {}),
    ],
)
def test_the_stem_has_the_number_of_image_channels(name, fields):
    variables = shapes_of(small(name, "add", **fields), (1, 8, 8, 5))
    assert image_channels(variables) == 5
    assert image_channels({"params": {"head": {"kernel": jnp.zeros((7, 2))}}}) == 3


def test_counts_the_parameters_of_aff():
    """Compare with the formula: two branches of two layers with biases and two norms."""
    params = shapes_of_aff(channels=16, reduction=4)
    hidden = 16 // 4
    branch = (16 * hidden + hidden) + 2 * hidden + (hidden * 16 + 16) + 2 * 16
    assert count_parameters(params) == 2 * branch


def shapes_of_aff(channels, reduction):
    x = jax.ShapeDtypeStruct((2, channels), jnp.float32)
    return jax.eval_shape(AFF(reduction=reduction).init, jax.random.key(0), x, x)["params"]


def test_a_multiply_add_is_two_operations():
    x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    lowered = jax.jit(lambda x: x @ x.T).lower(x)
    assert count_flops(lowered) == count_flops(lowered.compile()) == 2 * 3 * 4 * 3


def test_operations_that_xla_does_not_report_are_nan():
    program = Mock(spec=jax.stages.Lowered, **{"cost_analysis.return_value": None})
    assert math.isnan(count_flops(program))
