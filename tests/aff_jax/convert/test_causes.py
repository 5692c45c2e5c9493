"""Advice for checkpoints that do not match: the cause is named, with its value."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.convert import from_mxnet, from_torch, to_torch

IMAGES = jnp.zeros((1, 8, 8, 3))


def host(**fields):
    settings = {"num_classes": 4, "blocks_per_stage": (1,), "reduction": 8, **fields}
    return aff_jax.create_model("cifar_resnet8", "aff", "pytorch", **settings)


@pytest.fixture(scope="module")
def state():
    shapes = jax.eval_shape(host().init, jax.random.key(0), IMAGES)
    return to_torch(jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes), host())


def message(state, module, *inputs, read=from_torch, **options):
    with pytest.raises(ValueError, match="does not match this module") as error:
        read(state, module, *inputs, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("fields", "channels", "counts", "advice"),
    [
        ({"num_classes": 10}, 3, "2 misshapen", "pass num_classes=4;"),
        ({}, 1, "3 misshapen", "takes images with 3 input channels, and this network has 1:"),
        ({"reduction": 4}, 3, "14 misshapen", "pass reduction=8;"),
        ({"reduction": 4, "num_classes": 9}, 3, "16 misshapen", "num_classes=4; .*reduction=8;"),
        ({"width": 2}, 3, "40 misshapen", "fields such as width"),
    ],
)
def test_fields_that_differ_are_named(state, fields, channels, counts, advice):
    text = message(state, host(**fields), jnp.zeros((1, 8, 8, channels)))
    assert f" {counts}.\n" in text
    last = text.splitlines()[-1]
    assert "another network" not in last
    assert re.search(advice, last)


def test_a_shared_prefix_is_named(state):
    prefixed = {f"encoder.net.{name}": array for name, array in state.items()} | {"x": IMAGES}
    assert "pass prefix='encoder.net.'" in message(prefixed, host())
    from_torch(prefixed, host(), prefix="encoder.net.")
    from_torch(prefixed, host(), prefix="encoder.net")
    with pytest.raises(ValueError, match=r"begins with 'encodr\.net\.'.*'encoder\.net\.'"):
        from_torch(prefixed, host(), prefix="encodr.net")


def test_a_fusion_in_a_network_is_named_and_selected(state):
    x = jnp.zeros((1, 4, 4, 16))
    module = aff_jax.AFF(reduction=8)
    assert "pass prefix='stage1_block0.fuse.'" in message(state, module, x, x)
    selected = from_torch(state, module, x, x, prefix="stage1_block0.fuse.")
    assert selected["params"].keys() == {"local", "global"}


def test_a_missing_prefix_is_named(state):
    class Outer(nn.Module):
        net: nn.Module

        def __call__(self, images):
            return self.net(images)

    assert "rename={'': 'net'}" in message(state, Outer(host()), IMAGES)
    from_torch(state, Outer(host()), IMAGES, rename={"": "net"})


def test_names_of_other_files_are_recognized(state):
    symbols = {"resnetv10_conv0_weight": np.ones(2), "resnetv10_batchnorm0_gamma": np.ones(2)}
    for read in (from_mxnet, from_torch):
        assert "net.save_parameters(path)" in message(symbols, host(), read=read)
    headless = {name: array for name, array in state.items() if not name.startswith("head.")}
    assert "features_only=True" in message(headless, host())


def test_another_network_gets_no_advice_on_fields(state):
    other = {f"{name}.x": array for name, array in state.items()}
    assert "another network" in message(other, host()).splitlines()[-1]
    few = {"weight": state["stem.weight"]}
    assert "another network" in message(few, host()).splitlines()[-1]


def test_counters_are_not_counted(state):
    counters = {"old.num_batches_tracked": np.array(3), "n_averaged": np.array(2)}
    from_torch(state | counters, host())
    averaged = {f"module.{name}": a for name, a in state.items()} | {"n_averaged": np.array(2)}
    from_torch(averaged, host())


def test_inputs_with_other_channels_are_not_another_reduction():
    x = jnp.zeros((1, 4, 4, 16))
    aff = aff_jax.AFF()
    state = to_torch(aff.init(jax.random.key(0), x, x), aff, x, x)
    first = jnp.zeros((1, 16, 4, 4))
    assert "with the channels last" in message(state, aff, first, first)


def test_inputs_of_another_layout_are_named():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Conv(4, (3, 3), name="conv")(x)

    state = {"conv.weight": np.zeros((4, 3, 3, 3)), "conv.bias": np.zeros(4)}
    text = message(state, Network(), jnp.zeros((1, 3, 8, 8)))
    assert "The layer conv has 3 input channels in the checkpoint and 8 here" in text
    assert "with the channels last" in text
    assert "a field such as groups" in text


def test_quantized_weights_are_named(state):
    quantized = {name: np.int8(array) for name, array in state.items()}
    assert "Probably the weights are quantized" in message(quantized, host())


def test_a_part_of_the_unread_arrays_is_not_another_network():
    module, x = aff_jax.IAFF(share_global=True), jnp.zeros((1, 2, 2, 8))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, x)
    variables = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes)
    state = to_torch(variables, module, x, x)
    name = next(name for name in state if name.startswith("global_att2."))
    del state[name]
    assert "some of the arrays that no module reads" in message(state, module, x, x)
