"""FPN and U-Net: parameter counts by a closed formula, a level in NumPy, jit and pmap."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.pyramid import FPN, UNet
from tests.aff_jax import oracle
from tests.aff_jax.hosts.families import attention_parameters, count_parameters, normal, shapes_of
from tests.aff_jax.random_variables import random_variables

HOSTS = pytest.mark.parametrize("host", [FPN, UNet])
SHALLOW = (1, 1, 1)


def block(i, c):
    """Return the number of parameters of a pre-activation block that adds, from i to c channels."""
    return 2 * i + 9 * i * c + 2 * c + 9 * c * c + (i * c if i != c else 0)


def count(unet, blocks, classes, branches, width=1):
    """Return the number of parameters by the network's description. No count is published."""
    widths = [16 * width, 32 * width, 64 * width]
    total, before = 27 * widths[0], widths[0]
    for c in widths:
        total += block(before, c) + (blocks - 1) * block(c, c)
        before = c
    for deeper, lateral in ((widths[2], widths[1]), (widths[1], widths[0])):
        up = (16 if unet else 1) * deeper * lateral
        total += 2 * deeper + up + attention_parameters(lateral, branches)
        total += blocks * block(lateral, lateral) if unet else 0
    c = widths[0]
    return total + 2 * c + 9 * c * c + 2 * c + c * classes + classes


@pytest.mark.parametrize("name", ["fpn_resnet20", "unet_resnet20"])
@pytest.mark.parametrize(("fusion", "branches"), [("add", 0), ("aff", 2), ("iaff", 4)])
@pytest.mark.parametrize("width", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_parameter_counts(name, fusion, branches, width):
    model = create_model(name, fusion, num_classes=11, width=width)
    assert count_parameters(model) == count(name.startswith("unet"), 3, 11, branches, width)


# The results of the formula as literals, so that formula and network cannot change together.
@pytest.mark.parametrize(
    ("name", "expected"), [("fpn_resnet20", 278_451), ("unet_resnet20", 386_547)]
)
def test_parameter_counts_stay_as_they_are(name, expected):
    assert count_parameters(create_model(name, num_classes=11)) == expected


@HOSTS
def test_only_the_long_skips_are_fused(host):
    params = shapes_of(host(blocks_per_stage=SHALLOW))["params"]
    found = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert {path[0].key for path in found if "local" in str(path)} == {"fuse1", "fuse2"}


def doubled(x, kernel, size):
    """Apply a 4x4 transposed convolution of stride 2 and margin 1 as a scatter, and crop."""
    full = np.zeros((len(x), 2 * x.shape[1] + 2, 2 * x.shape[2] + 2, kernel.shape[2]))
    for row, column in np.ndindex(x.shape[1:3]):
        window = np.tensordot(x[:, row, column], kernel, ([1], [3]))
        full[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += window
    return full[:, 1 : 1 + size[0], 1 : 1 + size[1]]


@HOSTS
@pytest.mark.parametrize("normalize", [False, True])
def test_a_level_equals_the_formula_in_numpy(host, normalize):
    """Check the path up from the deepest map in double precision, at an odd size."""
    x = np.float64(normal((2, 7, 10, 3)))
    fields = {"blocks_per_stage": SHALLOW, "normalize_inputs": normalize}
    model = host(num_classes=3, param_dtype=jnp.float64, **fields)
    with jax.enable_x64(True):
        variables = random_variables(model, x)
        logits, seen = jax.jit(
            lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
        )(variables, x)
        maps = seen["intermediates"]["backbone"]["__call__"][0]
        params, stats = variables["params"], variables["batch_stats"]
        deeper, lateral = (np.asarray(z) for z in (maps[2], maps[1]))
        active = oracle.relu(oracle.batch_norm(deeper, params["norm3"], stats["norm3"], False))
        if host is FPN:
            projected = active @ params["up2"]["project"]["kernel"]
            up = np.asarray(jax.image.resize(projected, lateral.shape, "bilinear"))
        else:
            up = doubled(active, params["up2"]["kernel"], lateral.shape[1:3])
    assert logits.shape == (2, 7, 10, 3)
    assert (deeper.shape[1:3], lateral.shape[1:3]) == ((2, 3), (4, 5))
    if normalize:
        up, lateral = (
            oracle.batch_norm(z, params[name], stats[name], False)
            for z, name in ((up, "up2_norm"), (lateral, "lateral2_norm"))
        )
        lateral = oracle.relu(lateral)
    fused = oracle.aff(up, lateral, params["fuse2"], stats["fuse2"])
    found = seen["intermediates"]["fuse2"]["__call__"][0]
    np.testing.assert_allclose(found, fused, rtol=1e-12, atol=1e-12)


def test_a_unet_has_as_many_blocks_after_a_fusion_as_in_the_stage_of_the_backbone():
    params = shapes_of(UNet(fusion="add", blocks_per_stage=(2, 1, 1)))["params"]
    blocks = {name for name in params if "block" in name}
    assert blocks == {"up1_block0", "up1_block1", "up2_block0"}


@functools.cache
def trained(host):
    """Return a function of a network in training mode, its arguments, and its float64 result."""
    x = normal((4, 8, 8, 1))
    model = host(num_classes=3, blocks_per_stage=SHALLOW)
    variables = random_variables(model, x, dtype=np.float32)

    def apply(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    with jax.enable_x64(True):
        expected = jax.jit(apply)(*jax.tree.map(np.float64, (variables, x)))
        return apply, variables, x, jax.tree.map(np.asarray, expected)


@pytest.mark.slow
class VariantTest(chex.TestCase):
    """Results agree with and without jit, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_variants_of_fpn_agree(self):
        self.check_variant(FPN)

    @chex.variants(with_jit=True, with_pmap=True)
    def test_variants_of_unet_agree(self):
        self.check_variant(UNet)

    def check_variant(self, host):
        apply, variables, x, expected = trained(host)
        result, new = self.variant(apply)(variables, x)
        # Single against double precision through 23 layers.
        np.testing.assert_allclose(result, expected[0], rtol=1e-3, atol=1e-3)
        chex.assert_trees_all_close(new, expected[1], rtol=1e-3, atol=1e-4)
