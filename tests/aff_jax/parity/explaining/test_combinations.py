"""Sums, products, reductions and attention between compared layers are named."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
import torch
from torch.nn import functional as F

from aff_jax import parity
from tests.aff_jax.convert.states import images, randomized

pytestmark = pytest.mark.slow

WIDTH, HEADS = 12, 3


class TorchGated(torch.nn.Module):
    """A gated layer of LLaMA."""

    def __init__(self):
        super().__init__()
        self.w1, self.w3, self.w2 = (torch.nn.Linear(6, 6, bias=False) for _ in range(3))

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Gated(nn.Module):
    swapped: bool = False

    @nn.compact
    def __call__(self, x):
        w1, w3 = (nn.Dense(6, use_bias=False, name=name)(x) for name in ("w1", "w3"))
        gated = nn.silu(w3) * w1 if self.swapped else nn.silu(w1) * w3
        return nn.Dense(6, use_bias=False, name="w2")(gated)


def test_a_swapped_gate_is_named():
    x = images(5, 6)
    assert parity.compare(TorchGated(), Gated(), None, x, float64=True).equal
    result = parity.compare(TorchGated(), Gated(swapped=True), None, x, float64=True)
    assert result.first_mismatch.path == "w2"
    for part in (
        "JAX computes the output of `w1` times silu of the output of `w3`",
        "PyTorch silu of the output of `w1` times the output of `w3`",
    ):
        assert part in result.explanation


class TorchSelf(torch.nn.Module):
    """Self-attention whose query, key and value are one layer, or three."""

    def __init__(self, packed, causal=False):
        super().__init__()
        if packed:
            self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        else:
            self.q, self.k, self.v = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.packed, self.causal = packed, causal

    def forward(self, x):
        parts = self.qkv(x).chunk(3, -1) if self.packed else (self.q(x), self.k(x), self.v(x))
        parts = [part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts]
        y = F.scaled_dot_product_attention(*parts, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(-2))


class Self(nn.Module):
    packed: bool
    heads: int = HEADS
    split: str = "3 heads"
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        length = x.shape[1]
        if not self.packed:
            parts = [nn.Dense(WIDTH, name=name)(x) for name in "qkv"]
            parts = [part.reshape(*x.shape[:2], self.heads, -1) for part in parts]
        elif self.split == "3 heads":
            qkv = nn.Dense(3 * WIDTH, name="qkv")(x).reshape(len(x), length, 3, self.heads, -1)
            parts = jnp.moveaxis(qkv, 2, 0)
        else:
            qkv = nn.Dense(3 * WIDTH, name="qkv")(x).reshape(len(x), length, self.heads, 3, -1)
            parts = jnp.moveaxis(qkv, 3, 0)
        y = nn.dot_product_attention(self.scale * parts[0], *parts[1:])
        return nn.Dense(WIDTH, name="out")(y.reshape(x.shape))


ATTENTION = {
    "heads": (TorchSelf(False), Self(False, heads=2), ["attention of 2 heads", "of 3 heads"]),
    "mask": (TorchSelf(False, causal=True), Self(False), ["computes attention", "PyTorch causal"]),
    "scale": (TorchSelf(False), Self(False, scale=2.0), ["3 heads, without scaling"]),
    "split": (
        TorchSelf(True),
        Self(True, split="heads 3"),
        ["`qkv`, split into (heads, 3, size)", "`qkv`, split into (3, heads, size)"],
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_mistakes_in_attention_are_named(name):
    torch_module, module, words = ATTENTION[name]
    right = Self(torch_module.packed)
    if not torch_module.causal:
        assert parity.compare(torch_module, right, None, images(2, 5, WIDTH), float64=True).equal
    result = parity.compare(torch_module, module, None, images(2, 5, WIDTH), float64=True)
    assert result.first_mismatch.path == "out"
    for word in words:
        assert word in result.explanation


class TorchPool(torch.nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.enter, self.head = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
        self.position = torch.nn.Parameter(torch.randn(1, 4, 8))
        self.pool = pool

    def forward(self, x):
        return self.head(self.pool(self.enter(x) + self.position))


class Pool(nn.Module):
    pool: object
    adds: bool = True

    @nn.compact
    def __call__(self, x):
        position = self.param("position", nn.initializers.normal(), (1, 4, 8))
        x = nn.Dense(8, name="enter")(x)
        return nn.Dense(3, name="head")(self.pool(x + position if self.adds else x))


def same(x):
    return x


def test_a_forgotten_parameter_is_named():
    result = parity.compare(TorchPool(same), Pool(same, adds=False), None, images(2, 4, 6))
    assert "PyTorch adds the parameter `position`, and JAX does not" in result.explanation


class TorchChoice(torch.nn.Module):
    """An encoder and a head that reads one vector of its output."""

    def __init__(self, choose, kind=torch.nn.Linear, **options):
        super().__init__()
        self.enter, self.head = kind(6, 8, **options), torch.nn.Linear(8, 3)
        self.choose = choose

    def forward(self, x):
        return self.head(self.choose(self.enter(x)))


class Choice(nn.Module):
    choose: object
    kernel: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x):
        kind = nn.Conv(8, self.kernel, name="enter") if self.kernel else nn.Dense(8, name="enter")
        return nn.Dense(3, name="head")(self.choose(kind(x)))


def test_another_reduction_is_named():
    result = parity.compare(
        TorchChoice(lambda x: x[:, 0]), Choice(lambda x: x.mean(1)), None, images(2, 4, 6)
    )
    assert "applies the mean over the positions" in result.explanation
    assert "PyTorch selection of the first position" in result.explanation
    torch_module = TorchChoice(lambda x: x.mean((2, 3)), torch.nn.Conv2d, kernel_size=1)
    module = Choice(lambda x: x.max((1, 2)), (1, 1))
    result = parity.compare(torch_module, module, None, images(2, 4, 5, 6))
    assert "applies the maximum over the image" in result.explanation
    assert "PyTorch the mean over the image" in result.explanation


def test_another_pooling_of_volumes_is_named():
    torch_module = TorchChoice(
        lambda x: F.max_pool3d(x, 2).movedim(1, -1), torch.nn.Conv3d, kernel_size=1
    )
    module = Choice(lambda x: nn.avg_pool(x, (2, 2, 2), (2, 2, 2)), (1, 1, 1))
    result = parity.compare(torch_module, module, None, images(2, 4, 6, 8, 6))
    assert "average pooling with window 2, stride 2" in result.explanation
    assert "PyTorch maximum pooling with window 2, stride 2" in result.explanation


def test_another_number_of_heads_is_a_field():
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.MultiHeadDotProductAttention(2, name="attention")(x)

    result = parity.compare(randomized(Torch()), Ours(), None, images(2, 5, WIDTH), float64=True)
    assert result.first_mismatch.path == "attention"
    assert "`num_heads` is 2, PyTorch's is 3" in result.explanation


class TorchResidual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.inner, self.out = (torch.nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        x = self.enter(x)
        return self.out(torch.relu(x + self.inner(x)))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6, name="enter")(x)
        return nn.Dense(6, name="out")(x + nn.relu(nn.Dense(6, name="inner")(x)))


def test_an_activation_at_another_place_of_a_sum_is_named():
    result = parity.compare(TorchResidual(), Residual(), None, images(5, 6), float64=True)
    assert "computes the output of `enter` plus relu of the output of `inner`" in result.explanation
    assert (
        "PyTorch relu of (the output of `enter` plus the output of `inner`)" in result.explanation
    )


class TorchCausal(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(4, 4, 3)

    def forward(self, x):
        return self.conv(F.pad(x, (2, 0)))


class Causal(nn.Module):
    padding: str = "CAUSAL"

    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (3,), padding=self.padding, name="conv")(x)


def test_padding_in_front_of_a_layer_is_named():
    x = images(2, 9, 4)
    assert parity.compare(TorchCausal(), Causal(), None, x, float64=True).equal
    result = parity.compare(TorchCausal(), Causal("SAME"), None, x, float64=True)
    assert "pads the input of `conv` with zeros by ((0, 0), (2, 0), (0, 0))" in result.explanation


class TorchSquare(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(4, 4, 1), torch.nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Square(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Conv(4, (1, 1), name="a")(x)).swapaxes(1, 2)
        return nn.Conv(4, (1, 1), name="b")(x)


def test_inputs_of_convolutions_are_channels_first_where_all_axes_are_equal():
    result = parity.compare(TorchSquare(), Square(), None, images(4, 4, 4, 4), float64=True)
    assert result.first_mismatch.path == "b"
    assert "axes 1 and 2 in another order" in result.explanation
    assert "The layer itself agrees with PyTorch's on PyTorch's input" in result.explanation
