"""Tests of `freeze`: outputs equal those of the model, for every host and fusion."""

import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import aff_jax
from aff_jax import create_fusion, create_model, list_fusions
from aff_jax.inference.find_foldings import find_foldings
from aff_jax.inference.folding import NORMS
from aff_jax.inference.freezing import freeze
from aff_jax.inspection import inspect_module
from tests.aff_jax.hosts.test_registry import distinct_when_shallow, shallow
from tests.aff_jax.random_variables import random_variables, settled_variables

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((2, 6, 5, 5, 8))
IMAGES = rng.standard_normal((4, 17, 16, 3))


@pytest.mark.parametrize("fusion", list_fusions())
def test_every_fusion_has_the_same_outputs(fusion):
    module = create_fusion(fusion)
    with jax.enable_x64(True):
        variables = random_variables(module, X, Y)
        frozen = freeze(module, variables, X, Y)
        expected = module.apply(variables, X, Y)
        np.testing.assert_allclose(frozen(X, Y), expected, rtol=1e-9, atol=1e-9)
    assert "batch_stats" not in frozen.variables
    # All norms follow a layer and are folded into it, except the one at the input of concat.
    remaining = {path[0] for path in flatten_dict(frozen.variables.get(NORMS, {}))}
    assert remaining == ({"concat_norm"} if fusion == "concat" else set())


def check_host(name, fusion):
    """Check that a frozen host has the same outputs, in float64, where an error would be large."""
    with jax.enable_x64(True):
        model = shallow(name, fusion)
        variables = random_variables(model, IMAGES)
        frozen = freeze(model, variables, IMAGES)
        expected = jax.jit(model.apply)(variables, IMAGES)
        chex.assert_trees_all_close(frozen(IMAGES), expected, rtol=1e-9, atol=1e-9)
    assert "batch_stats" not in frozen.variables


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet18"])
def test_hosts_have_the_same_outputs(name):
    check_host(name, "aff")


@pytest.mark.slow
@pytest.mark.parametrize("name", distinct_when_shallow())
def test_every_host_has_the_same_outputs(name):
    check_host(name, "iaff")


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [name for name in list_fusions() if name not in ("aff", "iaff")])
def test_every_fusion_has_the_same_outputs_in_a_host(fusion):
    check_host("cifar_resnet8", fusion)


# The deepest of the CIFAR networks, and one of full depth for each other kind of block.
WHOLE = (
    "cifar_resnet110",
    "cifar_resnext29_32x4d",
    "fpn_resnet20",
    "inception20",
    "resnet34",
    "resnet50_v1d",
    "resnext50_32x4d",
    "unet_resnet20",
    "wide_resnet50_2",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fusion"), list(zip(WHOLE, itertools.cycle(list_fusions()), strict=False))
)
def test_whole_networks_have_the_same_logits_in_float32(name, fusion):
    """Models at full depth, with alternating fusions, to 1e-5 of the largest logit.

    The largest difference measured is 2.3e-6. Not compiled, which takes long.
    """
    pixels = 32 if name.startswith("cifar") else 64
    images = np.random.default_rng(0).standard_normal((4, pixels, pixels, 3)).astype(np.float32)
    model = create_model(name, fusion, num_classes=10)
    variables = settled_variables(model, images)
    frozen = freeze(model, variables)
    expected = model.apply(variables, images)
    scale = float(jnp.abs(expected).max())
    outputs = frozen.apply(frozen.variables, images)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("name", "not_folded"),
    [
        # Norms of a sum, a fusion or the image: the first of each block (in Inception, of both
        # branches), the input norm and the final norm.
        ("cifar_resnet8", 5),
        ("inception8", 8),
        ("fpn_resnet20", 13),
        ("unet_resnet20", 19),
        # Every norm follows a convolution.
        ("cifar_resnext29_32x4d", 0),
        ("resnet18", 0),
        ("resnet50_v1d", 0),
    ],
)
def test_every_norm_after_a_layer_is_folded(name, not_folded):
    model = create_model(name, "add", num_classes=3)  # The fastest to trace.
    x = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    foldings = find_foldings(model.apply, variables, (x,))
    assert sum(folding.layer_path is None for folding in foldings.values()) == not_folded
    assert len(foldings) == len(inspect_module(model, (x,)).norms)


@pytest.mark.slow
@pytest.mark.parametrize("share_global", [False, True])
def test_a_shared_global_branch_is_folded_once(share_global):
    module = aff_jax.IAFF(share_global=share_global)
    with jax.enable_x64(True):
        variables = random_variables(module, X, Y)
        frozen = freeze(module, {**variables, "unread": {"kernel": np.ones(3)}}, X, Y)
        outputs = frozen.apply(frozen.variables, X, Y)
        np.testing.assert_allclose(outputs, module.apply(variables, X, Y), rtol=1e-9)
    assert "unread" not in frozen.variables


@pytest.mark.parametrize(
    ("dtype", "fusion"),
    [
        (jnp.bfloat16, "add"),
        pytest.param(jnp.bfloat16, "aff", marks=pytest.mark.slow),
        pytest.param(jnp.float16, "aff", marks=pytest.mark.slow),
    ],
)
def test_half_precision_halves_the_parameters_but_not_the_logits(dtype, fusion):
    model = create_model("cifar_resnet8", fusion, num_classes=3)
    images = IMAGES.astype(np.float32)
    variables = random_variables(model, images, dtype=np.float32)
    frozen = freeze(model, variables, dtype=dtype)
    logits = frozen(images)
    assert logits.dtype == jnp.float32
    assert frozen.variables["params"]["head"]["kernel"].dtype == jnp.float32
    assert frozen.variables["params"]["stage1_block0"]["conv1"]["kernel"].dtype == dtype
    expected = jax.jit(model.clone(dtype=dtype).apply)(variables, images)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(logits, expected, atol=8 * eps * float(jnp.abs(expected).max()))


def test_a_custom_module_is_folded_and_takes_a_dtype():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            y = nn.Conv(8, (3, 3), use_bias=False)(x)
            y = nn.BatchNorm(use_running_average=not train)(y)
            return aff_jax.AFF()(nn.relu(y), x, train)

    x = X.astype(np.float32)
    variables = random_variables(Block(), x, dtype=np.float32)
    frozen = freeze(Block(), variables, x)
    np.testing.assert_allclose(frozen(x), Block().apply(variables, x), rtol=1e-5, atol=1e-5)
    # Conv has no bias to take up the shift.
    assert frozen.variables["norms"].keys() == {"BatchNorm_0"}
    half = freeze(Block(), variables, x, dtype=jnp.bfloat16)
    assert half(x).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(half.variables["params"])} == {
        jnp.dtype(jnp.bfloat16)
    }


def test_the_number_of_image_channels_is_read_from_the_weights():
    model = create_model("cifar_resnet8", "add", num_classes=3)
    images = IMAGES[..., :1].astype(np.float32)
    variables = random_variables(model, images, dtype=np.float32)
    expected = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(freeze(model, variables)(images), expected, rtol=1e-5, atol=1e-5)


def test_variables_of_another_network_are_refused():
    model = create_model("cifar_resnet8", num_classes=3)
    variables = random_variables(model, IMAGES, dtype=np.float32)
    with pytest.raises(ValueError, match="missing     batch_stats/input_norm/mean"):
        freeze(model, {"params": variables["params"]})
    other = create_model("cifar_resnet8", num_classes=4)
    with pytest.raises(ValueError, match=r"params/head/bias: \(3,\), expected \(4,\)"):
        freeze(other, variables)


def test_wrong_arguments_are_refused():
    fusion = create_fusion("aff")
    variables = random_variables(fusion, X, Y, dtype=np.float32)
    with pytest.raises(ValueError, match="chunk_size of at least 1, got 0"):
        freeze(fusion, variables, X, Y, chunk_size=0)
    with pytest.raises(ValueError, match="example inputs"):
        freeze(fusion, variables)
    model = create_model("cifar_resnet8", num_classes=3)
    variables = random_variables(model, IMAGES, dtype=np.float32)
    with pytest.raises(ValueError, match="returns logits"):
        freeze(model, variables, donate=True)


class Unusual(nn.Module):
    """A module whose `train` is True by default, with a parameter that only training reads."""

    @nn.compact
    def __call__(self, x, train=True):
        offset = self.param("offset", nn.initializers.ones, ())
        y = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return (y + offset if train else y), jnp.mean(y, axis=(0, 1, 2))


def test_flags_are_fixed_and_all_parameters_of_a_called_module_are_kept():
    x = X.astype(np.float32)
    variables = random_variables(Unusual(), x, dtype=np.float32)
    frozen = freeze(Unusual(), variables, x, False)
    expected = Unusual().apply(variables, x, False)
    chex.assert_trees_all_close(frozen(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"chunk_size": 3}, {"devices": jax.devices()[:2]}])
def test_results_without_a_batch_axis_are_refused(options):
    x = X.astype(np.float32)
    variables = random_variables(Unusual(), x, dtype=np.float32)
    with pytest.raises(ValueError, match="batch as their first axis"):
        freeze(Unusual(), variables, x, False, **options)


def test_a_norm_alone_takes_a_dtype():
    x = X.astype(np.float32)
    module = nn.BatchNorm(use_running_average=True, use_scale=False, use_bias=False)
    frozen = freeze(module, module.init(jax.random.key(0), x), x, dtype=jnp.bfloat16)
    assert frozen(x).dtype == jnp.bfloat16


def test_parameters_may_be_boxed():
    init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    x, y = X.astype(np.float32), Y.astype(np.float32)
    module = aff_jax.AFF(kernel_init=init)
    variables = module.init(jax.random.key(0), x, y)
    frozen = freeze(module, variables, x, y)
    np.testing.assert_allclose(frozen(x, y), module.apply(variables, x, y), rtol=1e-5, atol=1e-6)


def test_parameters_may_be_boxed_without_example_inputs():
    model = create_model("cifar_resnet8", "add", num_classes=3)
    images = IMAGES.astype(np.float32)
    variables = random_variables(model, images, dtype=np.float32)
    boxed = jax.tree.map(lambda leaf: nn.Partitioned(leaf, (None,) * leaf.ndim), variables)
    frozen, unboxed = freeze(model, boxed), freeze(model, variables)
    chex.assert_trees_all_equal(frozen.variables, unboxed.variables)
    assert jax.eval_shape(frozen.apply, frozen.variables, images).shape == (4, 3)
