"""A small network in both frameworks, and a comparison of its training steps."""

import flax.linen as nn
import jax
import numpy as np
import optax
import torch

import aff_jax
from aff_jax import parity

IMAGES = np.float32(np.random.default_rng(0).standard_normal((6, 5, 5, 3)))
LABELS = np.arange(6) % 5


class TorchSmall(torch.nn.Module):
    """Convolution, norm, ReLU, pool and dense layer. The bias of `conv` has no effect."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


class Small(nn.Module):
    """The same network; the fields are mistakes."""

    momentum: float = 0.9
    unbiased: bool = True
    stopped: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), padding=1, name="conv")(x)
        norm = aff_jax.BatchNorm(self.momentum, unbiased_variance=self.unbiased, name="bn")
        x = nn.relu(norm(x, train)).mean((1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(5, name="fc")(jax.lax.stop_gradient(x) if self.stopped else x)


def loss(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


def torch_loss(logits, **options):
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS), **options)


def sgd(parameters, **options):
    return torch.optim.SGD(parameters, 0.1, **{"momentum": 0.9, **options})


def compare(network=None, module=None, images=IMAGES, **options):
    """Compare three float64 steps of SGD with momentum; options override arguments."""
    defaults = {
        "loss": loss,
        "torch_loss": torch_loss,
        "optimizer": optax.sgd(0.1, momentum=0.9),
        "torch_optimizer": sgd,
        "float64": True,
    }
    return parity.compare_step(
        network or TorchSmall(), module or Small(), None, images, **{**defaults, **options}
    )
