"""Matching of checkpoint arrays and variables, renaming, and error messages."""

import flax.linen as nn
import numpy as np
import pytest
import torch

import aff_jax
from aff_jax.convert import from_torch, to_torch
from aff_jax.differences import DifferentArraysError
from tests.aff_jax.convert.states import aff_state, assert_same, channels_first, images, randomized
from tests.reference import torch_aff


def test_rename_maps_prefixes_both_ways():
    state = {f"encoder.fuse.{key}": value for key, value in aff_state().items()}
    rename = {"encoder.fuse": "blend"}

    class Wrapped(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            return aff_jax.AFF(name="blend")(x, y)

    x = images(2, 3, 3, 8)
    variables = from_torch(state, Wrapped(), x, x, rename=rename)
    assert_same(to_torch(variables, Wrapped(), x, x, rename=rename), state)
    bare = from_torch(state, aff_jax.AFF(), x, x, rename={"encoder.fuse": ""})
    assert bare["params"].keys() == {"local", "global"}
    with pytest.raises(ValueError, match=r"rename gives two arrays the name 'a.b'"):
        from_torch({"a.b": x, "c.b": x}, aff_jax.AFF(), x, x, rename={"c": "a"})


def test_lists_all_missing_unexpected_and_misshapen_arrays():
    state, x = aff_state(), images(2, 3, 3, 8)
    state["local_att.0.wieght"] = state.pop("local_att.0.weight")
    del state["global_att.5.running_mean"]
    state["local_att.3.bias"] = np.zeros(3, np.float32)
    state["optimizer_step"] = np.zeros(())
    with pytest.raises(DifferentArraysError) as error:
        from_torch(state, aff_jax.AFF(), x, x)
    message = str(error.value)
    assert len(error.value.differences) == 5
    assert "missing     local_att.0.weight (2, 8, 1, 1)   (nearest: local_att.0.wieght)" in message
    assert "missing     global_att.5.running_mean (8,)" in message
    assert "unexpected  local_att.0.wieght (2, 8, 1, 1)" in message
    assert "unexpected  optimizer_step ()" in message
    assert "misshapen   local_att.3.bias: (3,), expected (8,)" in message
    assert "of 24 arrays: 2 missing, 2 unexpected, 1 misshapen.\n" in message


def test_guesses_the_fusion_of_a_checkpoint():
    x = images(2, 3, 3, 8)
    with pytest.raises(ValueError, match=r"looks like a network with fusion='aff'; .*='iaff'"):
        from_torch(aff_state(), aff_jax.IAFF(), x, x)


def test_fusions_convert_from_layers_with_any_number_of_spatial_axes():
    x = images(2, 3, 3, 8)
    state = {k: v.reshape(v.shape[:2]) if v.ndim == 4 else v for k, v in aff_state().items()}
    flat = from_torch(state, aff_jax.AFF(), x, x)
    assert to_torch(flat, aff_jax.AFF(), x, x)["local_att.0.weight"].shape == (2, 8, 1, 1)
    line = images(2, 3, 8)
    assert to_torch(flat, aff_jax.AFF(), line, line)["local_att.0.weight"].shape == (2, 8, 1)


class Up(nn.Module):
    transpose_kernel: bool = False

    @nn.compact
    def __call__(self, x):
        up = nn.ConvTranspose(
            8, (2, 2), (2, 2), padding="VALID", transpose_kernel=self.transpose_kernel, name="up"
        )
        return up(x)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_transposed_convolutions(transpose_kernel):
    layer, x = torch.nn.ConvTranspose2d(8, 8, 2, 2), images(2, 3, 4, 8)
    state = {f"up.{key}": value.numpy() for key, value in layer.state_dict().items()}
    module = Up(transpose_kernel)
    variables = from_torch(state, module, x)
    with torch.no_grad():
        expected = np.moveaxis(layer(channels_first(x)).numpy(), 1, -1)
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-4, atol=1e-5)
    assert_same(to_torch(variables, module, x), state)


@pytest.mark.parametrize(
    ("features", "axis", "shape", "weight"),
    [
        ((2, 3), -1, (2, 4), (6, 4)),
        (5, (-2, -1), (2, 3, 4), (5, 12)),
        ((2, 3), (1, 2), (2, 3, 4), (6, 12)),
    ],
)
def test_general_dense_layers_have_flattened_axes(features, axis, shape, weight):
    theirs, x = torch.nn.Linear(*weight[::-1]), images(*shape)
    module = nn.DenseGeneral(features, axis)
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    variables = from_torch(state, module, x)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x).flatten(1)).numpy()
    output = np.reshape(module.apply(variables, x), expected.shape)
    # Sums of a dozen products in float32.
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    assert_same(to_torch(variables, module, x), state)


def test_prelu():
    theirs, x = torch.nn.PReLU(init=0.3), images(2, 3)
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    variables = from_torch(state, nn.PReLU(), x)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(nn.PReLU().apply(variables, x), expected)
    assert_same(to_torch(variables, nn.PReLU(), x), state)
    with pytest.raises(ValueError, match=r"misshapen   weight: \(3,\), expected \(1,\)"):
        from_torch({"weight": np.ones(3)}, nn.PReLU(), x)


def test_rejects_kernels_of_other_layers():
    class Other(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.ConvLocal(2, (1,), name="local")(x)

    with pytest.raises(ValueError, match="the kernel of a ConvLocal with 3 axes at local/kernel"):
        from_torch({"a": np.zeros(2)}, Other(), images(2, 3, 3))


def test_rejects_general_dense_layers_with_one_kernel_per_example():
    module = nn.DenseGeneral(3, batch_dims=(0,))
    with pytest.raises(ValueError, match="got the kernel of a DenseGeneral with 3 axes"):
        from_torch({"a": np.zeros(2)}, module, images(2, 3))


def test_rejects_weights_that_are_not_floating_point():
    state, x = aff_state(), images(2, 3, 3, 8)
    state["local_att.0.weight"] = state["local_att.0.weight"].astype(np.int8)
    with pytest.raises(
        ValueError, match=r"wrong dtype local_att.0.weight: int8, expected floating"
    ):
        from_torch(state, aff_jax.AFF(), x, x)


def test_unread_arrays_are_all_present_or_all_absent():
    iaff, x = randomized(torch_aff.iAFF(8)), images(2, 3, 3, 8)
    state = {key: value.numpy() for key, value in iaff.state_dict().items()}
    module = aff_jax.IAFF(share_global=True)
    without = {key: value for key, value in state.items() if "global_att2" not in key}
    assert "unread" not in from_torch(without, module, x, x)
    half = {k: v for k, v in state.items() if k != "global_att2.1.weight"}
    with pytest.raises(ValueError, match=r"missing     global_att2.1.weight"):
        from_torch(half, module, x, x)
    variables = from_torch(state, module, x, x)
    variables["unread"]["global_att2.1.weight"] = np.zeros((3, 3))
    with pytest.raises(DifferentArraysError, match=r"misshapen   unread/global_att2.1.weight"):
        to_torch(variables, module, x, x)
