"""Tests of Grad-CAM maps against PyTorch's gradients, and errors of `grad_cam`."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aff_jax import AFF, create_model, fusion_weights, grad_cam
from aff_jax.fusion.baselines import Add
from tests.aff_jax.random_variables import random_variables

# Both are float64 and sum at most a few hundred numbers of order one.
EXACT = 1e-12
IMAGES = np.random.default_rng(0).standard_normal((2, 8, 6, 3))
# The smallest network with one class per image, and with one per pixel.
CLASSIFIER, PYRAMID = "cifar_resnet8", "unet_resnet20"


class Net(nn.Module):
    """Two convolutions, and logits of the image or of each pixel at half the resolution."""

    pixels: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), name="first")(x))
        x = nn.relu(nn.Conv(5, (3, 3), name="second")(x))
        x = nn.max_pool(x, (2, 2), (2, 2)) if self.pixels else jnp.square(x).mean((1, 2))
        return nn.Dense(3, name="head")(x)


def torch_grad_cam(variables, layer, classes, pixels, where=None):
    """Compute the logits and maps of `Net` by equations 1 and 2 with PyTorch's gradients."""
    params = jax.tree.map(lambda x: torch.tensor(np.asarray(x)), variables["params"])
    activations = []

    def convolve(name, x):
        kernel = params[name]["kernel"].permute(3, 2, 0, 1)
        y = torch.nn.functional.conv2d(x, kernel, params[name]["bias"], padding=1)
        if name == layer:
            y.requires_grad_()
            activations.append(y)
        return torch.relu(y)

    x = convolve("second", convolve("first", torch.tensor(IMAGES).permute(0, 3, 1, 2)))
    x = torch.nn.functional.max_pool2d(x, 2) if pixels else x.square().mean((2, 3))
    logits = x.movedim(1, -1) @ params["head"]["kernel"] + params["head"]["bias"]
    maps = []
    for example, c in enumerate(classes):
        if where is None:
            score = logits[example, ..., c].sum()
        else:
            score = logits[example, ..., c][torch.tensor(where[example])].sum()
        (gradient,) = torch.autograd.grad(score, activations[0], retain_graph=True)
        weights = gradient[example].mean((1, 2))
        maps.append(torch.relu((weights[:, None, None] * activations[0][example]).sum(0)))
    return logits.detach().numpy(), torch.stack(maps).detach().numpy()


@pytest.mark.parametrize("layer", ["first", "second"])
def test_maps_equal_pytorchs_for_given_and_predicted_classes(layer):
    with jax.enable_x64(True):
        variables = random_variables(Net(), IMAGES)
        classes = np.array([2, 0])
        logits, expected = torch_grad_cam(variables, layer, classes, pixels=False)
        jitted = jax.jit(functools.partial(grad_cam, Net(), layer=layer))
        maps = jitted(variables, IMAGES, classes=classes)
        np.testing.assert_allclose(maps, expected, rtol=EXACT, atol=EXACT)
        one = grad_cam(Net(), variables, IMAGES, layer=layer, classes=2)
        np.testing.assert_allclose(one[0], expected[0], rtol=EXACT, atol=EXACT)

        _, expected = torch_grad_cam(variables, layer, logits.argmax(-1), pixels=False)
        predicted = jitted(variables, IMAGES)
        np.testing.assert_allclose(predicted, expected, rtol=EXACT, atol=EXACT)
    assert predicted.shape == (2, 8, 6)
    assert np.any(expected > 0)


@pytest.mark.parametrize("masked", [False, True])
def test_maps_of_a_segmentation_sum_the_logits_of_positions(masked):
    where = np.arange(24).reshape(2, 4, 3) % 5 < 2 if masked else None
    with jax.enable_x64(True):
        net = Net(pixels=True)
        variables = random_variables(net, IMAGES)
        classes = [1, 2]
        _, expected = torch_grad_cam(variables, "first", classes, pixels=True, where=where)
        maps = grad_cam(
            net, variables, IMAGES, layer="first", classes=np.array(classes), where=where
        )
    np.testing.assert_allclose(maps, expected, rtol=EXACT, atol=EXACT)
    assert np.any(expected > 0)


def test_before_pooling_and_a_dense_layer_the_map_is_the_class_activation_map():
    """Zhou et al., 2016: sum_k w_kc A_k. Grad-CAM divides it by the number of positions."""

    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(7, (3, 3), name="conv")(x)
            return nn.Dense(3, name="head")(x.mean((1, 2)))

    with jax.enable_x64(True):
        variables = random_variables(Pooled(), IMAGES)
        maps = grad_cam(Pooled(), variables, IMAGES, layer="conv", classes=1)
        conv = variables["params"]["conv"]
        bound = nn.Conv(7, (3, 3), param_dtype=jnp.float64)
        activations = np.asarray(bound.apply({"params": conv}, IMAGES))
    expected = activations @ variables["params"]["head"]["kernel"][:, 1] / (8 * 6)
    np.testing.assert_allclose(maps, np.maximum(expected, 0), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("fuse", [AFF, Add])
def test_the_default_layer_is_the_last_fusion(fuse):
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = fuse(name="early")(x, x**2)
            x = fuse(name="late")(nn.Conv(3, (3, 3), name="conv")(x), x)
            return nn.Dense(2, name="head")(nn.relu(x).mean((1, 2)))

    variables = random_variables(Two(), IMAGES, dtype=np.float32)

    @jax.jit
    def explain(variables, images):
        return [
            grad_cam(Two(), variables, images, layer=layer, classes=1)
            for layer in (None, "late", "conv")
        ]

    by_default, *given = explain(variables, IMAGES)
    np.testing.assert_array_equal(by_default, given[0])
    assert not np.allclose(by_default, given[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [CLASSIFIER, PYRAMID])
def test_remat_does_not_change_results(name):
    fields = {"blocks_per_stage": (1, 1, 1)} if name == PYRAMID else {}
    model = create_model(name, num_classes=3, **fields)
    variables = random_variables(model, IMAGES, dtype=np.float32)
    # A layer inside a block, which `remat` traces separately.
    layer = "stage2_block0/conv1" if name == CLASSIFIER else "up1_block0/conv1"

    def explain(model, variables, images, classes):
        maps = grad_cam(model, variables, images, layer=layer, classes=classes)
        return fusion_weights(model, variables, images), maps

    results = [
        jax.jit(functools.partial(explain, m))(variables, IMAGES, np.int32(1))
        for m in (model, model.clone(remat=True))
    ]
    chex.assert_trees_all_close(*results, rtol=1e-4, atol=1e-5)
    assert results[0][1].max() > 1e-3


def test_half_precision_is_summed_in_float32():
    explain = jax.jit(functools.partial(grad_cam, Net(), layer="first", classes=1))
    variables = random_variables(Net(), IMAGES, dtype=jnp.bfloat16)
    maps = explain(variables, jnp.asarray(IMAGES, jnp.bfloat16))
    assert maps.dtype == jnp.float32
    exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables)
    expected = explain(exact, jnp.asarray(IMAGES, jnp.float32))
    # bfloat16 has a significand of eight bits.
    np.testing.assert_allclose(maps, expected, rtol=0, atol=0.03 * float(expected.max()))


def classify(**options):
    model = create_model(CLASSIFIER, num_classes=3)
    return grad_cam(model, random_variables(model, IMAGES, dtype=np.float32), IMAGES, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layer": "stage3_block0/fuze"},
            r"Did you mean 'stage3_block0/fuse'.*Known: final_norm, input",
        ),
        ({"layer": "head"}, r"unknown layer with a spatial output: 'head'"),
        ({"classes": 3}, r"expected classes of 0 to 2, got 3"),
        ({"classes": -1}, r"expected classes of 0 to 2, got -1"),
        ({"classes": np.zeros(3, int)}, r"one for each of 2 examples, got int.* of shape \(3,\)"),
        ({"classes": 1.0}, r"one integer or one for each of 2 examples, got float"),
        ({"where": np.ones((2, 8, 6), bool)}, r"position, \(2,\), got \(2, 8, 6\)"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        classify(**options)


def test_a_network_without_fusions_needs_a_layer():
    variables = random_variables(Net(), IMAGES, dtype=np.float32)
    with pytest.raises(ValueError, match=r"Net has no fusion.*Known: first, second\."):
        grad_cam(Net(), variables, IMAGES)


def test_a_segmentation_needs_a_class():
    net = Net(pixels=True)
    variables = random_variables(net, IMAGES, dtype=np.float32)
    with pytest.raises(ValueError, match=r"logits for each position, \(2, 4, 3, 3\).*0 to 2"):
        grad_cam(net, variables, IMAGES, layer="first")


def test_a_backbone_has_no_classes():
    model = create_model(CLASSIFIER, features_only=True)
    variables = random_variables(model, IMAGES, dtype=np.float32)
    with pytest.raises(ValueError, match=r"from CIFARResNet, got tuple.*features_only=False"):
        grad_cam(model, variables, IMAGES)


def test_a_layer_that_is_called_twice_is_refused():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            conv = nn.Conv(3, (3, 3), name="conv")
            return nn.Dense(2, name="head")(conv(conv(x)).mean((1, 2)))

    variables = random_variables(Twice(), IMAGES, dtype=np.float32)
    with pytest.raises(ValueError, match=r"'conv', which is called 2 times"):
        grad_cam(Twice(), variables, IMAGES, layer="conv")
