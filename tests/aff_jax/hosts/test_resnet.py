"""ResNet as in torchvision: parameter counts, the stem for small images, jit and pmap."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.resnet import ResNet
from tests.aff_jax.hosts.families import count_parameters, normal, shapes_of, small
from tests.aff_jax.random_variables import random_variables


# Trainable parameters of open-aff's `aff_pytorch/aff_net/aff_resnet.py` with DAF, AFF and iAFF, and
# of torchvision's documentation where only one is given. The iAFF networks of open-aff include a
# `global_att2` that they never read. They are as large as those of the "paper" reference, which has
# a second global branch.
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet18", {"add": 11_689_512, "aff": 12_400_232, "iaff": 13_110_952}),
        ("resnet34", {"add": 21_797_672}),
        ("resnet50", {"add": 25_557_032, "aff": 45_789_864, "iaff": 66_022_696}),
        pytest.param("resnet101", {"add": 44_549_160}, marks=pytest.mark.slow),
        pytest.param("resnet152", {"add": 60_192_808}, marks=pytest.mark.slow),
        pytest.param(
            "resnext50_32x4d",
            {"add": 25_028_904, "aff": 45_261_736, "iaff": 65_494_568},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "resnext101_32x8d",
            {"add": 88_791_336, "aff": 126_980_520, "iaff": 165_169_704},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "wide_resnet50_2",
            {"add": 68_883_240, "aff": 89_116_072, "iaff": 109_348_904},
            marks=pytest.mark.slow,
        ),
        pytest.param("wide_resnet101_2", {"add": 126_886_696}, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts(name, counts):
    for fusion, count in counts.items():
        model = create_model(name, fusion, reference="paper")
        assert count_parameters(model) == count


def test_the_pytorch_reference_has_no_second_global_branch():
    fuse = shapes_of(create_model("resnet18", "iaff", "pytorch"))["params"]["stage1_block0"]["fuse"]
    assert set(fuse) == {"local", "global", "local2"}


@pytest.mark.parametrize(
    ("small_input", "kernel", "sizes"), [(False, 7, (16, 8, 4)), (True, 3, (32, 16, 8))]
)
def test_small_input_keeps_the_size_in_the_stem(small_input, kernel, sizes):
    model = small("resnet18", small_input=small_input)
    _, variables = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, capture_intermediates=True),
        jax.random.key(0),
        jnp.zeros((1, 32, 32, 3)),
    )
    assert variables["params"]["stem"]["conv"]["kernel"].shape == (kernel, kernel, 3, 8)
    seen = variables["intermediates"]
    names = "stem", "stage1_block0", "stage2_block0"
    assert tuple(seen[name]["__call__"][0].shape[1] for name in names) == sizes


@pytest.mark.slow
class VariantTest(chex.TestCase):
    """Results agree with and without jit, on a device, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants_agree(self):
        apply, variables, x, expected = trained()
        result, new = self.variant(apply)(variables, x)
        # Single against double precision through one block.
        np.testing.assert_allclose(result, expected[0], rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(new, expected[1], rtol=1e-4, atol=1e-5)


@functools.cache
def trained():
    """Return a function of a network in training mode, its arguments, and its float64 result."""
    x = normal((4, 8, 8, 3))
    model = ResNet(num_classes=3, base_channels=8, blocks_per_stage=(1,))
    variables = random_variables(model, x, dtype=np.float32)

    def apply(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    with jax.enable_x64(True):
        expected = jax.jit(apply)(*jax.tree.map(np.float64, (variables, x)))
        return apply, variables, x, jax.tree.map(np.asarray, expected)
