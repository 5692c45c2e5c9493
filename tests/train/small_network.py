"""A small network with batch norm, batches for it, and its training step."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

import aff_jax
from train.steps.parallel import AXIS
from train.steps.state import make_state
from train.steps.train_step import make_train_step


class SmallNetwork(nn.Module):
    """A strided convolution, batch norm, and a dense layer on the mean."""

    num_classes: int = 10
    norm: Callable[..., nn.Module] = aff_jax.BatchNorm
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, train=False):
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Conv(4, (3, 3), strides=2, padding="VALID", use_bias=False, name="conv", **dtypes)(
            images
        )
        x = nn.relu(self.norm(name="norm", **dtypes)(x, train=train))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.num_classes, param_dtype=self.param_dtype, name="head")(x)


def scaled(images, labels, step, first_row):
    """Scale pixels to the range from 0 to 1, as the `augment` of a step."""
    return images / 255, labels


def batches(count, size=16, side=6):
    """Yield batches of square gray images that are brighter for larger labels."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        labels = rng.integers(0, 10, size).astype(np.int32)
        images = (
            rng.integers(0, 255, (size, side, side, 1)) * (labels[:, None, None, None] + 1) / 10
        )
        yield {"image": images.astype(np.uint8), "label": labels}


def state_and_step(
    model, augment=scaled, image_shape=(6, 6, 1), ema_decay=0.0, loss_scale=False, **options
):
    """Return the initial state and the step of SGD with momentum and rate 0.1 / (1 + updates)."""

    def schedule(count):
        return 0.1 / (1 + count)

    optimizer = optax.sgd(schedule, momentum=0.9)
    step = make_train_step(
        model, optimizer, schedule, augment, AXIS, ema_decay=ema_decay, **options
    )
    state = make_state(model, optimizer, 0, image_shape, ema=ema_decay > 0, loss_scale=loss_scale)
    return state, step
