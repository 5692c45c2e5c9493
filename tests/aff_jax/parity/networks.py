"""Small networks, each written in PyTorch and in linen, that compute the same."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch

import aff_jax
from tests.aff_jax.convert.states import images
from tests.aff_jax.parity.transformers import GPT, TorchGPT, TorchViT, ViT
from tests.reference import torch_aff

__all__ = ["NETWORKS", "Port"]


class Port(NamedTuple):
    """A network in both frameworks.

    Attributes:
        torch_module: The PyTorch module.
        module: The linen module.
        inputs: Inputs of the linen module.
        options: Options of `parity.compare`.
    """

    torch_module: Any
    module: nn.Module
    inputs: Sequence[Any]
    options: Mapping[str, Any] = {}


class TorchAFF1d(torch_aff.AFF):
    """AFF on sequences (batch, channels, time)."""

    def __init__(self, channels):
        super().__init__(channels)
        for name, branch in list(self.named_children()):
            if isinstance(branch, torch.nn.Sequential):
                kinds = {
                    torch.nn.Conv2d: lambda m: torch.nn.Conv1d(m.in_channels, m.out_channels, 1),
                    torch.nn.BatchNorm2d: lambda m: torch.nn.BatchNorm1d(m.num_features),
                    torch.nn.AdaptiveAvgPool2d: lambda m: torch.nn.AdaptiveAvgPool1d(1),
                }
                layers = [kinds.get(type(m), lambda m: m)(m) for m in branch]
                setattr(self, name, torch.nn.Sequential(*layers))


class TorchAudio(torch.nn.Module):
    """Strided convolutions of a signal, whose skip is fused by AFF."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv1d(2, 8, 5, stride=2, padding=2)
        self.norm1 = torch.nn.BatchNorm1d(8)
        self.conv2 = torch.nn.Conv1d(8, 8, 3, padding=1)
        self.norm2 = torch.nn.BatchNorm1d(8)
        self.fuse = TorchAFF1d(8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        y = torch.relu(self.norm2(self.conv2(x)))
        return self.head(self.fuse(y, x).mean(2))


class Audio(nn.Module):
    """The linen module with the same layers, on (batch, time, channels)."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (5,), 2, padding=2, name="conv1")(x)
        x = nn.relu(aff_jax.BatchNorm(name="norm1")(x))
        y = nn.Conv(8, (3,), padding=1, name="conv2")(x)
        y = nn.relu(aff_jax.BatchNorm(name="norm2")(y))
        x = aff_jax.AFF(gain=2.0, name="fuse")(y, x)
        return nn.Dense(3, name="head")(x.mean(1))


class TorchUNet(torch.nn.Module):
    """A U-Net on volumes with one level."""

    def __init__(self):
        super().__init__()
        self.enter = torch.nn.Conv3d(3, 8, 3, padding=1)
        self.enter_norm = torch.nn.GroupNorm(2, 8)
        self.down = torch.nn.Conv3d(8, 16, 3, stride=2, padding=1)
        self.down_norm = torch.nn.InstanceNorm3d(16, affine=True)
        self.up = torch.nn.ConvTranspose3d(16, 8, 2, stride=2)
        self.leave = torch.nn.Conv3d(16, 4, 1)

    def forward(self, x):
        x = torch.relu(self.enter_norm(self.enter(x)))
        y = torch.relu(self.down_norm(self.down(x)))
        return self.leave(torch.cat([x, self.up(y)], 1))


class UNet(nn.Module):
    """The linen module with the same layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3, 3), padding=1, name="enter")(x)
        x = nn.relu(nn.GroupNorm(2, epsilon=1e-5, name="enter_norm")(x))
        y = nn.Conv(16, (3, 3, 3), 2, padding=1, name="down")(x)
        y = nn.relu(nn.InstanceNorm(epsilon=1e-5, name="down_norm")(y))
        up = nn.ConvTranspose(8, (2, 2, 2), (2, 2, 2), padding="VALID", name="up")
        x = jnp.concatenate([x, up(y)], -1)
        return nn.Conv(4, (1, 1, 1), name="leave")(x)


class TorchTwice(torch.nn.Module):
    """A layer that is called twice, under two names."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 6)
        self.again = self.first
        self.out = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.again(torch.tanh(self.first(x)))))


class Twice(nn.Module):
    """The linen module, with the layer under its first or its second name."""

    name_of_layer: str

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6, name=self.name_of_layer)
        return nn.Dense(2, name="out")(jnp.tanh(layer(jnp.tanh(layer(x)))))


class Untied(nn.Module):
    """The linen module, with a layer of its own for each name."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(6, name="first")(x))
        return nn.Dense(2, name="out")(jnp.tanh(nn.Dense(6, name="again")(x)))


class TorchSequence(torch.nn.Module):
    """Layers and a sum over time of (length, batch, channels)."""

    def __init__(self):
        super().__init__()
        self.enter = torch.nn.Linear(4, 6)
        self.norm = torch.nn.LayerNorm(6)
        self.out = torch.nn.Linear(6, 6)

    def forward(self, x):
        x = self.norm(torch.relu(self.enter(x)))
        return self.out(torch.cumsum(x, 0))


class Sequence_(nn.Module):
    """The linen module, on (batch, length, channels)."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(1e-5, name="norm")(nn.relu(nn.Dense(6, name="enter")(x)))
        return nn.Dense(6, name="out")(jnp.cumsum(x, 1))


class TorchMany(torch.nn.Module):
    """Inputs in a list, a dict and keywords, flags and None; outputs in a dict and a tuple."""

    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Linear(3, 4), torch.nn.Conv2d(3, 4, 1)

    def forward(self, pair, named, mask=None, scale=None, doubles=False):
        assert mask is None
        x = self.left(pair[0] + pair[1]) * scale
        y = self.right(named["image"])
        return {"sum": 2 * x if doubles else x, "parts": (y, [y.mean((2, 3)), None])}


class Many(nn.Module):
    """The linen module with the same inputs and outputs."""

    @nn.compact
    def __call__(self, pair, named, mask=None, *, scale, doubles=False, train):
        assert mask is None
        assert train is False
        assert doubles is True
        x = nn.Dense(4, name="left")(pair[0] + pair[1]) * scale
        y = nn.Conv(4, (1, 1), name="right")(named["image"])
        return {"sum": 2 * x, "parts": (y, [y.mean((1, 2)), None])}


def _many_inputs():
    pair = [images(2, 3), images(2, 3, seed=1)]
    return pair, {"image": images(2, 4, 5, 3)}, None


def _blocks(name):
    return {f"{name}.{index}": f"block{index}" for index in range(2)}


TOKENS = np.random.default_rng(0).integers(11, size=(2, 7))

NETWORKS = {
    "vit": lambda: Port(TorchViT(), ViT(), [images(2, 12, 8, 3)], {"rename": _blocks("blocks")}),
    "gpt": lambda: Port(TorchGPT(), GPT(), [TOKENS], {"rename": _blocks("h")}),
    "audio": lambda: Port(TorchAudio(), Audio(), [images(2, 16, 2)]),
    # Time and channels have the same size after the first convolution.
    "audio with ambiguous shapes": lambda: Port(TorchAudio(), Audio(), [images(2, 15, 2)]),
    "u-net": lambda: Port(TorchUNet(), UNet(), [images(2, 4, 6, 8, 3)]),
    "u-net with ambiguous shapes": lambda: Port(TorchUNet(), UNet(), [images(3, 4, 4, 4, 3)]),
    "layer called twice": lambda: Port(TorchTwice(), Twice("first"), [images(3, 6)]),
    "second name": lambda: Port(TorchTwice(), Twice("again"), [images(3, 6)]),
    "tied": lambda: Port(TorchTwice(), Untied(), [images(3, 6)]),
    "sequence first": lambda: Port(TorchSequence(), Sequence_(), [images(3, 5, 4)]),
    "sequence first, square": lambda: Port(TorchSequence(), Sequence_(), [images(4, 4, 4)]),
    "sequence first, given": lambda: Port(
        TorchSequence(),
        Sequence_(),
        [images(3, 5, 4)],
        {"torch_inputs": [images(3, 5, 4).swapaxes(0, 1)]},
    ),
    "many inputs": lambda: Port(
        TorchMany(),
        Many(),
        _many_inputs(),
        {
            "kwargs": {"scale": np.float32([2, -1, 0.5, 3]), "doubles": True},
            "torch_kwargs": {"scale": np.float32([2, -1, 0.5, 3]), "doubles": True},
        },
    ),
    "bridge of bfloat16": lambda: Port(TorchTwice(), Twice("first"), [jnp.bfloat16(images(3, 6))]),
}
"""Functions that make networks, by name."""
