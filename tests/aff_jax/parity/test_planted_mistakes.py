"""Planted mistakes of ports: each is found at its layer, and the explanation names it.

The networks are small and random, and run in float64. The linen module has the mistake.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
import torch
from torch.nn import functional as F

import aff_jax
from aff_jax import parity
from tests.aff_jax.convert.states import images, randomized


class TorchChain(torch.nn.Module):
    """A convolution, a norm, a function, and a second layer."""

    def __init__(self, function, norm=None, out=None, conv=None):
        super().__init__()
        self.conv = conv or torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = norm or torch.nn.BatchNorm2d(8)
        self.out = out or torch.nn.Conv2d(8, 4, 1)
        self.function = function

    def forward(self, x):
        return self.out(self.function(self.norm(self.conv(x))))


class Chain(nn.Module):
    """The linen module with the same layers."""

    function: Callable[[Any], Any]
    norm: Callable[..., Any] = aff_jax.BatchNorm
    out: Callable[..., Any] = lambda name: nn.Conv(4, (1, 1), name=name)
    conv: Callable[..., Any] = lambda name: nn.Conv(8, (3, 3), padding=1, name=name)

    @nn.compact
    def __call__(self, x):
        return self.out(name="out")(
            self.function(self.norm(name="norm")(self.conv(name="conv")(x)))
        )


def same(x):
    return x


def flat(x):
    return x.flatten(1)


def pooled(x):
    return F.max_pool2d(torch.relu(x), 3, 2, 1)


def flax_pool(pool, padding=((1, 1), (1, 1)), **options):
    return lambda x: pool(nn.relu(x), (3, 3), (2, 2), padding, **options)


def resized(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def linen_resized(x):
    return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear")


def linear_norm(kind, **options):
    return lambda name: kind(name=name, **options)


def flat_linear():
    return torch.nn.Linear(8 * 6 * 8, 4)


def flat_dense(name):
    return nn.Dense(4, name=name)


MISTAKES = {
    # name: (PyTorch, linen, layer, words of the explanation)
    "epsilon of BatchNorm": (
        TorchChain(same),
        Chain(same, norm=lambda name: aff_jax.BatchNorm(epsilon=1e-3, name=name)),
        "norm",
        ["`epsilon` is 0.001, PyTorch's is 1e-05"],
    ),
    "epsilon of GroupNorm": (
        TorchChain(same, norm=torch.nn.GroupNorm(2, 8)),
        Chain(same, norm=lambda name: nn.GroupNorm(2, name=name)),
        "norm",
        ["`epsilon` is 1e-06, PyTorch's is 1e-05"],
    ),
    "groups of GroupNorm": (
        TorchChain(same, norm=torch.nn.GroupNorm(2, 8)),
        Chain(same, norm=lambda name: nn.GroupNorm(4, epsilon=1e-5, name=name)),
        "norm",
        ["`num_groups` is 4, PyTorch's is 2"],
    ),
    "gelu with tanh": (
        TorchChain(F.gelu),
        Chain(nn.gelu),
        "out",
        ["applies gelu with tanh", "PyTorch gelu with erf", "`norm`"],
    ),
    "relu for leaky relu": (
        TorchChain(lambda x: F.leaky_relu(x, 0.1)),
        Chain(nn.relu),
        "out",
        ["applies relu", "PyTorch a leaky relu with slope 0.1"],
    ),
    "another slope": (
        TorchChain(lambda x: F.leaky_relu(x, 0.1)),
        Chain(nn.leaky_relu),
        "out",
        ["slope 0.01", "slope 0.1"],
    ),
    "activation forgotten": (
        TorchChain(F.silu),
        Chain(same),
        "out",
        ["applies the identity", "PyTorch silu"],
    ),
    "SAME for symmetric padding": (
        TorchChain(same, conv=torch.nn.Conv2d(3, 8, 3, 2, padding=1)),
        Chain(same, conv=lambda name: nn.Conv(8, (3, 3), 2, name=name)),
        "conv",
        ["`padding` is 'SAME', PyTorch's is ((1, 1), (1, 1))"],
    ),
    **{
        f"padding mode {mode}": (
            TorchChain(same, conv=torch.nn.Conv2d(3, 8, 3, padding=1, padding_mode=mode)),
            Chain(same),
            "conv",
            [f"`padding` is 1, PyTorch's is {padding}", "With PyTorch's the layer agrees"],
        )
        for mode, padding in (
            ("reflect", "'REFLECT'"),
            ("replicate", "(1, 1) with padding_mode='replicate': pad the input with jnp.pad"),
            ("circular", "'CIRCULAR'"),
        )
    },
    "padding mode of another size": (
        TorchChain(same, conv=torch.nn.Conv2d(3, 8, 3, padding=2, padding_mode="reflect")),
        Chain(same, conv=lambda name: nn.Conv(8, (3, 3), padding=2, name=name)),
        "conv",
        ["(2, 2) with padding_mode='reflect'", "mode='reflect'"],
    ),
    "dilation": (
        TorchChain(same, conv=torch.nn.Conv2d(3, 8, 3, padding=2, dilation=2)),
        Chain(same, conv=lambda name: nn.Conv(8, (3, 3), name=name)),
        "conv",
        ["`kernel_dilation` is 1, PyTorch's is (2, 2)"],
    ),
    "stride": (
        TorchChain(same, conv=torch.nn.Conv2d(3, 8, 3, 2, padding=1)),
        Chain(same, conv=lambda name: nn.Conv(8, (3, 3), padding=1, name=name)),
        "conv",
        ["`strides` is 1, PyTorch's is (2, 2)", "in shape"],
    ),
    "flatten order": (
        TorchChain(flat, out=flat_linear()),
        Chain(lambda x: x.reshape(len(x), -1), out=flat_dense),
        "out",
        ["flattened in another order", "(48, 8) in JAX and (8, 48)"],
    ),
    "average for maximum pool": (
        TorchChain(pooled),
        Chain(flax_pool(nn.avg_pool)),
        "out",
        ["relu and average pooling with window 3, stride 2", "PyTorch relu and maximum pooling"],
    ),
    "padding of a pool": (
        TorchChain(pooled),
        Chain(flax_pool(nn.max_pool, "SAME")),
        "out",
        ["padding (0, 1)", "padding (1, 1)"],
    ),
    "padding counted in an average": (
        TorchChain(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
        Chain(lambda x: nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)))),
        "out",
        ["JAX applies average pooling", "with the padding not counted"],
    ),
    "aligned corners": (
        TorchChain(resized),
        Chain(linen_resized),
        "out",
        ["align_corners=False", "align_corners=True"],
    ),
    "factor": (
        TorchChain(lambda x: 0.5 * torch.tanh(x)),
        Chain(lambda x: jnp.tanh(x)),
        "out",
        ["PyTorch's values are 0.5 times JAX's"],
    ),
    "concatenated in another order": (
        TorchChain(lambda x: torch.cat([x[:, :4].exp(), x[:, 4:].tanh()], 1)),
        Chain(lambda x: jnp.concatenate([jnp.tanh(x[..., 4:]), jnp.exp(x[..., :4])], -1)),
        "out",
        ["rotated along axis 3 by 4", "concatenated"],
    ),
    "height and width swapped": (
        TorchChain(same, conv=torch.nn.Conv2d(3, 8, 1)),
        Chain(lambda x: x.swapaxes(1, 2), conv=lambda name: nn.Conv(8, (1, 1), name=name)),
        "out",
        ["axes 1 and 2 in another order"],
    ),
    "softmax over another axis": (
        TorchChain(lambda x: torch.softmax(x, 1)),
        Chain(lambda x: nn.softmax(x, 1)),
        "out",
        ["softmax over axis 1 ", "PyTorch softmax over the channels"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_at_its_layer_and_named(mistake):
    torch_module, module, layer, words = MISTAKES[mistake]
    size = (2, 6, 6, 3) if mistake == "height and width swapped" else (2, 6, 8, 3)
    result = parity.compare(randomized(torch_module), module, None, images(*size), float64=True)
    assert not result.equal
    assert result.first_mismatch.path == layer
    for word in words:
        assert word in result.explanation
