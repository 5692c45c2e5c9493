"""Layers that `nn.scan` and `nn.vmap` stack are numbered layers of PyTorch."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch

import aff_jax
from aff_jax.convert import from_torch, to_torch
from aff_jax.convert.stacks import Stack, find_stacks, index_of
from aff_jax.inspection import inspect_module
from tests.aff_jax.convert.states import aff_state, assert_same, images, randomized


def scanned(layer, length, axis=0, **axes):
    axes = {"params": axis, "batch_stats": axis, **axes}
    return nn.scan(layer, variable_axes=axes, split_rngs={"params": True}, length=length)


class Block(nn.Module):
    """A residual block of a transformer without a mask."""

    @nn.compact
    def __call__(self, x, _=None):
        dtypes = {"param_dtype": np.float64}
        y = nn.LayerNorm(1e-5, name="norm", **dtypes)(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attn", **dtypes)(y)
        return x + nn.Dense(x.shape[-1], name="mlp", **dtypes)(x), None


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(6)
        self.attn = torch.nn.MultiheadAttention(6, 2, batch_first=True)
        self.mlp = torch.nn.Linear(6, 6)

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.mlp(x)


def class_of_layers(x):
    return scanned(Block, 3)(name="layers")(x, None)[0]


def function_of_a_layer(x):
    def body(block, x, _):
        return block(x)

    return scanned(body, 3)(Block(name="layers"), x, None)[0]


def rematerialized(x):
    return scanned(nn.remat(Block), 3)(name="layers")(x, None)[0]


def on_the_last_axis(x):
    return scanned(Block, 3, axis=-1)(name="layers")(x, None)[0]


@pytest.mark.parametrize(
    "stack", [class_of_layers, function_of_a_layer, rematerialized, on_the_last_axis]
)
def test_scanned_transformer_agrees_with_a_module_list(stack):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return stack(x)

    theirs = torch.nn.Sequential(*[TorchBlock() for _ in range(3)]).double()
    state = {f"layers.{key}": value.numpy() for key, value in theirs.state_dict().items()}
    with jax.enable_x64(True):
        x = images(2, 4, 6).astype(np.float64)
        variables = from_torch(state, Network(), x)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(Network().apply(variables, x), expected, rtol=0, atol=1e-12)
        assert_same(to_torch(variables, Network(), x), state)


def test_scans_in_scans_have_two_numbers():
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x, _=None):
            return nn.Dense(3, name="dense")(x), None

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x, _=None):
            return scanned(Inner, 4)(name="inner")(x, None)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return scanned(Outer, 2)(name="outer")(x, None)[0]

    x = images(2, 3)
    structure = inspect_module(Network(), (x,))
    stacks = find_stacks(structure)["params", "outer", "inner", "dense", "kernel"]
    assert stacks == [Stack(1, 0, 2), Stack(2, 0, 4)]
    variables = Network().init(jax.random.key(0), x)
    state = to_torch(variables, Network(), x)
    assert len(state) == 16
    kernel = variables["params"]["outer"]["inner"]["dense"]["kernel"]
    np.testing.assert_array_equal(state["outer.1.inner.2.dense.weight"], kernel[1, 2].T)
    jax.tree.map(np.testing.assert_array_equal, from_torch(state, Network(), x), variables)


def test_vmapped_layers():
    class Heads(nn.Module):
        @nn.compact
        def __call__(self, x):
            heads = nn.vmap(
                nn.Dense,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=None,
                axis_size=2,
            )
            return heads(4, name="heads")(x)

    x, heads = images(2, 3), torch.nn.ModuleList([torch.nn.Linear(3, 4) for _ in range(2)])
    state = {f"heads.{key}": value.numpy() for key, value in heads.state_dict().items()}
    variables = from_torch(state, Heads(), x)
    with torch.no_grad():
        expected = np.stack([head(torch.from_numpy(x)).numpy() for head in heads])
    # Sums of three products in float32.
    np.testing.assert_allclose(Heads().apply(variables, x), expected, rtol=1e-5, atol=1e-6)
    assert_same(to_torch(variables, Heads(), x), state)


@pytest.mark.parametrize("name", ["AFF", "IAFF"])
def test_scanned_fusions_have_the_names_of_open_aff(name):
    from tests.reference import torch_aff

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            fields = {"IAFF": {"share_global": True}}.get(name, {})
            return getattr(aff_jax, name)(**fields, name="fuse")(x, -x), None

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return scanned(Layer, 2)(name="layers")(x, None)[0]

    make = {"AFF": torch_aff.AFF, "IAFF": torch_aff.iAFF}[name]
    state = {}
    for index in range(2):
        layer = randomized(make(8), index).state_dict()
        state |= {f"layers.{index}.fuse.{key}": value.numpy() for key, value in layer.items()}
    x = images(2, 3, 3, 8)
    variables = from_torch(state, Network(), x)
    assert variables["batch_stats"]["layers"]["fuse"]["local"]["reduce_norm"]["var"].shape == (2, 2)
    assert_same(to_torch(variables, Network(), x), state)


def test_a_missing_layer_of_a_stack_is_listed():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return class_of_layers(x)

    x = images(2, 4, 6).astype(np.float64)
    state = {f"layers.{key}": value for key, value in aff_state().items()}
    missing = r"missing     layers.2.attn.key.bias \(6,\)"
    with jax.enable_x64(True), pytest.raises(ValueError, match=missing):
        from_torch(state, Network(), x)


def test_index_of_axes_that_are_counted_without_the_outer_ones():
    assert index_of([Stack(1, 1, 2), Stack(2, 1, 4)], (1, 3), 3) == (slice(None), 1, 3)
    assert index_of([Stack(1, -1, 2), Stack(2, 0, 4)], (1, 3), 3) == (3, slice(None), 1)
    assert index_of([], (), 3) == ()
