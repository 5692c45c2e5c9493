"""Optimizers: one table of names, and which parameters they decay."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from aff_jax.lookup import look_up

__all__ = ["OPTIMIZERS", "WEIGHT_DECAY_MASKS", "Settings", "make_optimizer"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What optimizers are told; each reads what it knows.

    `schedule` is the learning rate by step; `weight_decay_mask` maps the parameters to
    a tree of booleans, true where `weight_decay` acts.
    """

    schedule: optax.Schedule
    momentum: float
    weight_decay: float
    weight_decay_mask: Callable[[Any], Any]


def sgd(settings: Settings) -> optax.GradientTransformation:
    """Stochastic gradient descent with Nesterov momentum; the decay is part of the gradient.

        g <- gradient + weight_decay * w
        m <- g + momentum * m
        w <- w - rate * (g + momentum * m)

    Source: PyTorch's and MXNet's SGD with `nesterov`.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=settings.weight_decay_mask),
        optax.sgd(settings.schedule, momentum=settings.momentum, nesterov=True),
    )


def adamw(settings: Settings) -> optax.GradientTransformation:
    """Adam whose decay is no part of the gradient; `momentum` is its beta1, and beta2 is 0.999.

        w <- w - rate * (m_hat / (sqrt(v_hat) + 1e-8) + weight_decay * w)

    Source: Loshchilov and Hutter, 2019, algorithm 2.
    """
    return optax.adamw(
        settings.schedule,
        b1=settings.momentum,
        weight_decay=settings.weight_decay,
        mask=settings.weight_decay_mask,
    )


def lars(settings: Settings) -> optax.GradientTransformation:
    """Momentum with a rate for each layer, for batches of many thousands.

        g <- gradient + weight_decay * w
        g <- g * 0.001 * |w| / |g|                  where w is decayed
        m <- rate * g + momentum * m
        w <- w - m

    Source: You, Gitman, Ginsburg, 2017, algorithm 1; biases and norms are left out as is custom.
    """
    return optax.lars(
        settings.schedule,
        weight_decay=settings.weight_decay,
        weight_decay_mask=settings.weight_decay_mask,
        trust_ratio_mask=settings.weight_decay_mask,
        momentum=settings.momentum,
    )


def adagrad(settings: Settings) -> optax.GradientTransformation:
    """Adagrad, which has no momentum; the decay is part of the gradient.

        g <- gradient + weight_decay * w
        h <- h + g^2                            from zero
        w <- w - rate * g / sqrt(h + 1e-7)

    Source: Duchi, Hazan, Singer, 2011; start and epsilon as in MXNet, which the authors used.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=settings.weight_decay_mask),
        optax.adagrad(settings.schedule, initial_accumulator_value=0.0, eps=1e-7),
    )


OPTIMIZERS: dict[str, Callable[[Settings], optax.GradientTransformation]] = {
    "sgd": sgd,
    "adamw": adamw,
    "lars": lars,
    "adagrad": adagrad,
}


def kernels(params: Any) -> Any:
    """True for all but those called `scale` or `bias`.

    These belong to batch norms and biases, where decay is not regularisation.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )


def everything(params: Any) -> Any:
    """True for every parameter, as in the authors' code for CIFAR."""
    return jax.tree.map(lambda _: True, params)


WEIGHT_DECAY_MASKS: dict[str, Callable[[Any], Any]] = {"kernels": kernels, "all": everything}
"""Which parameters are decayed."""


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
    weight_decay_mask: str = "kernels",
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """An optimizer of the table, on gradients that are clipped first where `clip_norm` is not 0.

        gradient <- gradient * min(1, clip_norm / |gradient|)      |.| over all parameters at once

    Raises:
        ValueError: no optimizer, or no weight decay mask, has that name.
    """
    settings = Settings(
        schedule,
        momentum,
        weight_decay,
        look_up(WEIGHT_DECAY_MASKS, "weight decay mask", weight_decay_mask),
    )
    optimizer = look_up(OPTIMIZERS, "optimizer", name)(settings)
    if not clip_norm:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
