"""Conversion from and to PyTorch, compared with PyTorch's outputs."""

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import aff_jax
from aff_jax.convert import from_torch, to_torch
from tests.aff_jax.convert.states import aff_state, assert_same, channels_first, images, randomized
from tests.aff_jax.random_variables import random_variables
from tests.reference import torch_aff

FUSIONS = {
    "aff": (torch_aff.AFF, aff_jax.AFF, {"gain": 2.0}),
    "iaff": (torch_aff.iAFF, aff_jax.IAFF, {"share_global": True}),
    "ms_cam": (torch_aff.MS_CAM, aff_jax.MSCAM, {}),
}


@pytest.mark.parametrize("name", FUSIONS)
@hypothesis.settings(max_examples=6, deadline=None, derandomize=True)
@hypothesis.given(
    channels=st.integers(1, 24),
    reduction=st.integers(1, 32),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 2**32 - 1),
)
def test_fusions_agree_in_any_shape(name, channels, reduction, shape, seed):
    make_torch, make, fields = FUSIONS[name]
    torch_module = randomized(make_torch(channels, reduction), seed).double()
    state = {key: value.numpy() for key, value in torch_module.state_dict().items()}
    batch, height, width = shape
    x, y = (
        images(batch, height, width, channels, seed=seed + i).astype(np.float64) for i in (0, 1)
    )
    inputs = (x,) if name == "ms_cam" else (x, y)
    with jax.enable_x64(True):
        module = make(reduction=reduction, param_dtype=jnp.float64, **fields)
        variables = from_torch(state, module, *inputs)
        result = jax.jit(module.apply)(variables, *inputs)
        back = to_torch(variables, module, *inputs)
    with torch.no_grad():
        expected = torch_module(*map(channels_first, inputs)).numpy()
    # float64 on both sides.
    np.testing.assert_allclose(result, np.moveaxis(expected, 1, -1), rtol=1e-9, atol=1e-11)
    assert_same(back, state)


def torch_resnet(fuse_type):
    return torch_aff.ResNet(torch_aff.basic_block, (1, 1), fuse_type, num_classes=5, features=8)


def linen_resnet(fusion, **fields):
    fields = {"blocks_per_stage": (1, 1), "base_channels": 8, **fields}
    return aff_jax.create_model("resnet18", fusion, "pytorch", num_classes=5, **fields)


@pytest.mark.parametrize("fuse_type", ["DAF", "AFF", "iAFF"])
def test_networks_agree_and_round_trip_bit_exactly(fuse_type):
    network = randomized(torch_resnet(fuse_type))
    model = linen_resnet({"DAF": "add"}.get(fuse_type, fuse_type.lower()))
    variables = from_torch(network.state_dict(), model)
    x = images(2, 33, 40, 3)
    with torch.no_grad():
        expected = network(channels_first(x)).numpy()
    # float32 through six layers and two fusions.
    result = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

    back = to_torch(variables, model)
    assert_same(back, {key: value.numpy() for key, value in network.state_dict().items()})
    again = torch_resnet(fuse_type)
    again.load_state_dict({key: torch.from_numpy(value) for key, value in back.items()})


@pytest.mark.parametrize(
    "fuse_type",
    ["AFF", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("DAF", "iAFF"))],
)
def test_training_agrees_in_block_outputs_gradients_and_statistics(fuse_type):
    network = randomized(torch_resnet(fuse_type)).double().train()
    state = {key: value.numpy().copy() for key, value in network.state_dict().items()}
    names = {"layer1.0": "stage1_block0", "layer2.0": "stage2_block0"}
    outputs = {}
    for name, path in names.items():
        network.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, path=path: outputs.update({path: output})
        )
    x = images(2, 33, 40, 3).astype(np.float64)
    network(channels_first(x)).sin().sum().backward()

    def loss(params):
        logits, new = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, method: (
                module.name in names.values() and method == "__call__"
            ),
        )
        return jnp.sum(jnp.sin(logits)), new

    with jax.enable_x64(True):
        fusion = {"DAF": "add"}.get(fuse_type, fuse_type.lower())
        model = linen_resnet(fusion, param_dtype=jnp.float64)
        variables = from_torch(state, model)
        gradients, new = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        gradients = to_torch({**variables, "params": gradients}, model)
        statistics = to_torch({**variables, "batch_stats": new["batch_stats"]}, model)

    def assert_close(result, expected, name):
        expected = expected.detach().numpy()
        # float64 on both sides. The gradient of a bias before a norm is rounding.
        np.testing.assert_allclose(result, expected, rtol=1e-8, atol=1e-10, err_msg=name)

    for path in names.values():
        (output,) = new["intermediates"][path]["__call__"]
        assert_close(np.moveaxis(output, -1, 1), outputs[path], path)
    compared = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert len(compared) >= 17
    for name, gradient in compared.items():
        assert_close(gradients[name], gradient, name)
    for name, buffer in network.named_buffers():
        if not name.endswith("num_batches_tracked") and "global_att2" not in name:
            assert_close(statistics[name], buffer, name)


def test_variables_without_unread_arrays_load_strictly_in_pytorch():
    """The second global branch is written as a copy of the first."""
    model = linen_resnet("iaff")
    variables = random_variables(model, images(1, 32, 32, 3), dtype=np.float32)
    state = to_torch(variables, model)
    network = torch_resnet("iAFF")
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    np.testing.assert_array_equal(
        state["layer1.0.fuse_mode.global_att2.1.weight"],
        state["layer1.0.fuse_mode.global_att.1.weight"],
    )


class LinenNetwork(nn.Module):
    """A network with an AFF under another name."""

    @nn.compact
    def __call__(self, x, train=False):
        y = nn.Conv(8, (3, 3), name="mix")(x)
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="mix_norm")(y)
        x = aff_jax.AFF(gain=2.0, name="blend")(y, x, train)
        return nn.Dense(4, name="out")(x.mean((1, 2)))


class TorchNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.mix_norm = torch.nn.BatchNorm2d(8)
        self.blend = torch_aff.AFF(8)
        self.out = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.blend(self.mix_norm(self.mix(x)), x).mean((2, 3)))


def test_custom_modules_may_contain_fusions():
    network, x = randomized(TorchNetwork()), images(2, 5, 6, 8)
    variables = from_torch(network.state_dict(), LinenNetwork(), x)
    with torch.no_grad():
        expected = network(channels_first(x)).numpy()
    result = jax.jit(LinenNetwork().apply)(variables, x)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    assert_same(to_torch(variables, LinenNetwork(), x), state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {k: v for k, v in state.items() if "num_batches_tracked" not in k},
    ],
)
def test_wrappings_are_removed(wrap):
    state, x = aff_state(), images(2, 3, 3, 8)
    variables = from_torch(wrap(state), aff_jax.AFF(), x, x)
    assert_same(to_torch(variables, aff_jax.AFF(), x, x), state)


def test_half_precision_is_converted_to_the_dtype_of_the_module():
    x = images(2, 3, 3, 8)
    halves = {k: torch.from_numpy(v).to(torch.bfloat16) for k, v in aff_state().items() if v.ndim}
    variables = from_torch(halves, aff_jax.AFF(), x, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_only_hosts_need_no_example_inputs():
    with pytest.raises(ValueError, match="expected example inputs for AFF, got none"):
        from_torch(aff_state(), aff_jax.AFF())


def test_hosts_need_no_example_inputs_beside_keyword_arguments():
    model = aff_jax.create_model("cifar_resnet8", num_classes=3)
    variables = random_variables(model, images(1, 8, 8, 3), dtype=np.float32)
    state = to_torch(variables, model)
    assert_same(to_torch(variables, model, kwargs={"train": False}), state)
    by_name = {"images": images(1, 8, 8, 3)}
    assert_same(to_torch(variables, model, kwargs=by_name), state)


def test_to_torch_finds_the_image_channels_in_the_variables():
    model = aff_jax.create_model("cifar_resnet8", num_classes=3)
    variables = random_variables(model, images(1, 8, 8, 1), dtype=np.float32)
    assert to_torch(variables, model)["stem.weight"].shape == (16, 1, 3, 3)


def test_to_torch_rejects_variables_of_another_module():
    x = images(2, 3, 3, 8)
    variables = random_variables(aff_jax.AFF(), x, x)
    missing = r"24 missing(.*\n)*  missing     params/local2/expand/kernel"
    with pytest.raises(ValueError, match=missing):
        to_torch(variables, aff_jax.IAFF(), x, x)
    with pytest.raises(ValueError, match=r"misshapen   params/local/reduce/kernel: \(8, 2\), exp"):
        to_torch(variables, aff_jax.AFF(reduction=2), x, x)


def test_fusions_may_be_called_with_keywords_and_flags():
    class Keyword(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return aff_jax.AFF(name="blend")(x=x, y=-x, train=train)

    x = images(2, 3, 3, 8)
    state = {f"blend.{key}": value for key, value in aff_state().items()}
    variables = from_torch(state, Keyword(), x, False)
    assert_same(to_torch(variables, Keyword(), x, False), state)
    variables = from_torch(state, Keyword(), x, kwargs={"train": False})
    assert_same(to_torch(variables, Keyword(), x, kwargs={"train": False}), state)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("inception8", {}),
        ("fpn_resnet20", {"blocks_per_stage": (1, 1, 1)}),
        ("unet_resnet20", {"blocks_per_stage": (1, 1, 1)}),
    ],
)
def test_hosts_without_open_aff_code_keep_their_names_in_pytorch(name, fields):
    model = aff_jax.create_model(name, num_classes=3, **fields)
    variables = random_variables(model, images(1, 8, 8, 1), dtype=np.float32)
    state = to_torch(variables, model)
    assert_same(to_torch(from_torch(state, model, images(1, 8, 8, 1)), model), state)


def test_unet_upsampling_is_a_pytorch_transposed_convolution():
    model = aff_jax.create_model("unet_resnet20", num_classes=3, blocks_per_stage=(1, 1, 1))
    x = images(2, 5, 6, 3)
    variables = random_variables(model, x, dtype=np.float32)
    maps = jax.jit(model.clone(features_only=True).apply)(variables, x)
    state = to_torch(variables, model)
    weight = torch.from_numpy(state["up1.weight"])
    assert weight.shape == (32, 16, 4, 4)

    def norm(z):
        kept = [torch.from_numpy(state[f"norm2.{k}"]) for k in ("running_mean", "running_var")]
        learned = [torch.from_numpy(state[f"norm2.{k}"]) for k in ("weight", "bias")]
        return torch.relu(torch.nn.functional.batch_norm(z, *kept, *learned))

    up = torch.nn.functional.conv_transpose2d(
        norm(channels_first(np.array(maps[1]))), weight, stride=2, padding=1
    )
    _, seen = jax.jit(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
    )(variables, x)
    result = np.moveaxis(np.array(seen["intermediates"]["up1"]["__call__"][0]), -1, 1)
    # Sums of 512 products in float32.
    np.testing.assert_allclose(result, up.numpy(), rtol=1e-4, atol=1e-4)
