"""Converted weights give the recorded outputs of open-aff's networks."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, IAFF, MSCAM, BatchNorm, create_model
from aff_jax.convert import from_mxnet, from_torch, to_torch
from aff_jax.convert.mapping import list_entries
from aff_jax.convert.rules import MXNET
from aff_jax.inspection import inspect_module
from tests.aff_jax.convert.golden import DATA, Case, channels_last, draw

MODULES = {
    "mscam_c64": (MSCAM, {}),
    "aff_c64": (AFF, {"gain": 2.0}),
    "iaff_c64": (IAFF, {"share_global": True}),
    "clap_aff_1d_c64": (AFF, {"gain": 2.0}),
    "eres2net_aff_c64": (
        AFF,
        {
            "gain": 2.0,
            "combine": "concat",
            "scales": ("local",),
            "activation": nn.silu,
            "logit_scale": 2.0,
        },
    ),
}

TORCH_NETWORKS = {
    "resnet18_aff": ("resnet18", "aff", {}),
    "resnet50_daf": ("resnet50", "add", {}),
    "resnet50_iaff_small": ("resnet50", "iaff", {"num_classes": 10, "small_input": True}),
    "resnext50_32x4d_aff": ("resnext50_32x4d", "aff", {}),
}

MXNET_NETWORKS = {
    "mxnet_cifar_resnet8_aff": ("cifar_resnet8", "aff", {"num_classes": 10}),
    "mxnet_cifar_resnet8_iaff": ("cifar_resnet8", "iaff", {"num_classes": 10}),
    "mxnet_cifar_resnet32_aff_c4": ("cifar_resnet32", "aff", {"num_classes": 100, "width": 4}),
    "mxnet_cifar_resnext29_aff": ("cifar_resnext29_32x4d", "aff", {"num_classes": 100}),
    "mxnet_resnet50_aff": ("resnet50_v1d", "aff", {}),
    "mxnet_resnext50_iaff": ("resnext50_32x4d_v1d", "iaff", {}),
}


@functools.cache
def compiled(model):
    """Return the compiled network, which cases with the same model share."""
    return jax.jit(model.apply)


def largest_error(result, expected):
    """Return the largest difference relative to the largest value."""
    assert result.shape == expected.shape
    return np.max(np.abs(np.asarray(result) - expected)) / np.max(np.abs(expected))


@pytest.fixture(scope="module", params=MODULES)
def loaded(request):
    """Return a case, its module and the converted variables."""
    case = Case(request.param)
    make, fields = MODULES[request.param]
    module = make(**fields, norm=functools.partial(BatchNorm, unbiased_variance=True))
    return case, module, from_torch(case.weights, module, *case.inputs)


class TestModules:
    """Modules in float32 on both sides, with sums of up to 252 x 64 products."""

    def test_evaluation(self, loaded):
        case, module, variables = loaded
        result = jax.jit(module.apply)(variables, *case.inputs)
        assert largest_error(result, channels_last(case["eval"])) < 1e-6

    def test_training_with_gradients_and_running_statistics(self, loaded):
        case, module, variables = loaded
        cotangent = channels_last(
            draw(case.meta["inputs"]["cotangent"]["seed"], case["eval"].shape)
        )

        def loss(params, inputs):
            changed = {**variables, "params": params}
            out, new = module.apply(changed, *inputs, train=True, mutable=["batch_stats"])
            return jnp.sum(out * cotangent), (out, new)

        (_, (out, new)), (gradients, of_inputs) = jax.jit(
            jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        )(variables["params"], case.inputs)

        assert largest_error(out, channels_last(case["train"])) < 2e-6
        for key, gradient in zip(("grad_x", "grad_y"), of_inputs, strict=False):
            assert largest_error(gradient, channels_last(case[key])) < 1e-5

        named = to_torch({**variables, "params": gradients, **new}, module, *case.inputs)
        for key, expected in case.starting_with("grad/").items():
            # A bias before a batch norm has no effect: its gradient is rounding on both sides.
            before_norm = key.endswith((".0.bias", ".3.bias")) or (
                key.startswith("global") and key.endswith((".1.bias", ".4.bias"))
            )
            if before_norm:
                assert np.max(np.abs(named[key])) < 1e-3
            else:
                assert largest_error(named[key], expected) < 1e-4, key
        for key, expected in case.starting_with("after/").items():
            if not key.endswith("num_batches_tracked"):
                assert largest_error(named[key], expected) < 1e-6, key

    def test_round_trip_is_exact(self, loaded):
        case, module, variables = loaded
        back = to_torch(variables, module, *case.inputs)
        assert back.keys() == case.weights.keys()
        for key, array in case.weights.items():
            assert back[key].dtype == array.dtype
            np.testing.assert_array_equal(back[key], array, err_msg=key)


def torch_network(name):
    host, fusion, fields = TORCH_NETWORKS[name]
    return create_model(host, fusion, "pytorch", **fields)


def mxnet_network(name):
    host, fusion, fields = MXNET_NETWORKS[name]
    return create_model(host, fusion, "mxnet", **fields)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH_NETWORKS)
def test_pytorch_networks(name):
    case, model = Case(name), torch_network(name)
    variables = from_torch(case.weights, model)
    assert largest_error(jax.jit(model.apply)(variables, case.image), case["logits"]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH_NETWORKS)
def test_pytorch_networks_in_float64(name):
    case, model = Case(name), torch_network(name)
    variables = from_torch(case.weights, model)
    with jax.enable_x64(True):
        result = jax.jit(model.apply)(variables, np.float64(case.image))
    assert result.dtype == np.float64
    assert largest_error(result, case["logits64"]) < 1e-10


@pytest.mark.parametrize(
    "name",
    [
        name if "resnet8_" in name else pytest.param(name, marks=pytest.mark.slow)
        for name in MXNET_NETWORKS
    ],
)
def test_mxnet_networks(name):
    case, model = Case(name), mxnet_network(name)
    variables = from_mxnet(case.weights, model)
    assert largest_error(compiled(model)(variables, case.image), case["logits"]) < 1e-5


@pytest.mark.parametrize(
    "name", ["mxnet_cifar_resnext29_aff", "mxnet_resnet50_aff", "mxnet_resnext50_iaff"]
)
def test_names_and_shapes_of_large_networks(name):
    entries = list_entries(inspect_module(mxnet_network(name), ()), MXNET)
    recorded = {key: tuple(shape) for key, shape in Case(name).meta["state"]}
    # `from_mxnet` drops the arrays of batch norms without scale or offset.
    found = {entry.name: entry.shape for entry in entries}
    assert found.items() <= recorded.items()
    assert all(key.endswith((".gamma", ".beta")) for key in recorded.keys() - found.keys())


@pytest.mark.parametrize(
    ("file", "name", "key"),
    [
        ("cifar_resnet8_aff.params", "mxnet_cifar_resnet8_aff", "logits"),
        ("cifar_resnet8_aff.fp16.params", "mxnet_cifar_resnet8_aff", "logits_fp16_weights"),
        ("cifar_resnet8_iaff.params", "mxnet_cifar_resnet8_iaff", "logits"),
    ],
)
def test_files_that_mxnet_wrote(file, name, key):
    case, model = Case(name), mxnet_network(name)
    variables = from_mxnet(DATA / file, model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert largest_error(compiled(model)(variables, case.image), case[key]) < 1e-5
