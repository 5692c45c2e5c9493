"""Small transformers, each written in PyTorch and in linen: a ViT and a GPT."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["GPT", "TorchGPT", "TorchViT", "ViT"]

WIDTH, HEADS = 16, 2


class TorchBlock(torch.nn.Module):
    """A pre-norm block of attention and a multilayer perceptron."""

    def __init__(self, causal):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.proj = (
            torch.nn.Linear(WIDTH, WIDTH) for _ in range(4)
        )
        self.wide, self.narrow = torch.nn.Linear(WIDTH, 32), torch.nn.Linear(32, WIDTH)
        self.causal = causal

    def forward(self, x):
        y = self.norm1(x)
        split = [
            layer(y).unflatten(-1, (HEADS, -1)) for layer in (self.query, self.key, self.value)
        ]
        heads = F.scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in split), is_causal=self.causal
        )
        x = x + self.proj(heads.transpose(1, 2).flatten(-2))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class Block(nn.Module):
    """The linen module with the same layers."""

    causal: bool
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(self.epsilon, name="norm1")(x)
        query, key, value = (
            nn.Dense(WIDTH, name=name)(y).reshape(*x.shape[:2], HEADS, -1)
            for name in ("query", "key", "value")
        )
        mask = nn.make_causal_mask(jnp.ones(x.shape[:2])) if self.causal else None
        y = nn.dot_product_attention(query, key, value, mask=mask)
        x = x + nn.Dense(WIDTH, name="proj")(y.reshape(x.shape))
        y = nn.LayerNorm(self.epsilon, name="norm2")(x)
        y = nn.gelu(nn.Dense(32, name="wide")(y), approximate=False)
        return x + nn.Dense(WIDTH, name="narrow")(y)


class TorchViT(torch.nn.Module):
    """A ViT for images of 12 by 8 pixels."""

    def __init__(self):
        super().__init__()
        self.patch = torch.nn.Conv2d(3, WIDTH, 4, 4)
        self.token = torch.nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = torch.nn.Parameter(torch.randn(1, 7, WIDTH))
        self.blocks = torch.nn.ModuleList([TorchBlock(causal=False) for _ in range(2)])
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class ViT(nn.Module):
    """The linen module with the same layers."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (4, 4), (4, 4), name="patch")(x)
        x = x.reshape(len(x), -1, WIDTH)
        token = self.param("token", nn.initializers.normal(), (1, 1, WIDTH))
        positions = self.param("positions", nn.initializers.normal(), (1, 7, WIDTH))
        token = jnp.broadcast_to(token, (len(x), 1, WIDTH))
        x = jnp.concatenate([token, x], 1) + positions
        for index in range(2):
            x = Block(causal=False, epsilon=self.epsilon, name=f"block{index}")(x)
        x = nn.LayerNorm(self.epsilon, name="norm")(x)
        return nn.Dense(5, name="head")(x[:, 0])


class TorchGPT(torch.nn.Module):
    """A language model whose output layer has the weights of its embedding."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = torch.nn.Embedding(11, WIDTH), torch.nn.Embedding(9, WIDTH)
        self.h = torch.nn.ModuleList([TorchBlock(causal=True) for _ in range(2)])
        self.ln_f = torch.nn.LayerNorm(WIDTH)
        self.lm_head = torch.nn.Linear(WIDTH, 11, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class GPT(nn.Module):
    """The linen module with the same layers."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(11, WIDTH, name="wte")
        x = embed(tokens) + nn.Embed(9, WIDTH, name="wpe")(np.arange(tokens.shape[1]))
        for index in range(2):
            x = Block(causal=True, name=f"block{index}")(x)
        return embed.attend(nn.LayerNorm(1e-5, name="ln_f")(x))
