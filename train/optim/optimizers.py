"""Optimizers, and masks of the parameters that weight decay acts on."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from aff_jax.lookup import look_up

__all__ = ["OPTIMIZERS", "WEIGHT_DECAY_MASKS", "Optimizer", "Settings", "make_optimizer"]

Optimizer = optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyperparameters of the optimizers. Each optimizer uses those that it has.

    Attributes:
        schedule: Learning rate as a function of the step.
        momentum: Momentum, or beta1 of AdamW.
        weight_decay: Coefficient of weight decay.
        weight_decay_mask: Maps parameters to a tree of booleans, True where weight decay acts.
    """

    schedule: optax.Schedule
    momentum: float
    weight_decay: float
    weight_decay_mask: Callable[[Any], Any]


def sgd(settings: Settings) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum and L2 regularization.

    The update is::

        g <- gradient + weight_decay * w
        m <- g + momentum * m
        w <- w - rate * (g + momentum * m)

    References:
        SGD with `nesterov` in PyTorch and MXNet.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=settings.weight_decay_mask),
        optax.sgd(settings.schedule, momentum=settings.momentum, nesterov=True),
    )


def adamw(settings: Settings) -> Optimizer:
    """Adam with decoupled weight decay; `momentum` is beta1, and beta2 is 0.999.

    The update is::

        w <- w - rate * (m_hat / (sqrt(v_hat) + 1e-8) + weight_decay * w)

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """
    return optax.adamw(
        settings.schedule,
        b1=settings.momentum,
        weight_decay=settings.weight_decay,
        mask=settings.weight_decay_mask,
    )


def lars(settings: Settings) -> Optimizer:
    """Layer-wise adaptive rate scaling, for batches of many thousands of examples.

    The update is::

        g <- gradient + weight_decay * w
        g <- g * 0.001 * |w| / |g|                  where weight decay acts
        m <- rate * g + momentum * m
        w <- w - m

    References:
        You, Gitman and Ginsburg, 2017, algorithm 1. As is usual, biases and batch norms are not
        rescaled.
    """
    return optax.lars(
        settings.schedule,
        weight_decay=settings.weight_decay,
        weight_decay_mask=settings.weight_decay_mask,
        trust_ratio_mask=settings.weight_decay_mask,
        momentum=settings.momentum,
    )


def adagrad(settings: Settings) -> Optimizer:
    """Adagrad with L2 regularization; it has no momentum.

    The update is::

        g <- gradient + weight_decay * w
        h <- h + g^2                            initially zero
        w <- w - rate * g / sqrt(h + 1e-7)

    References:
        Duchi, Hazan and Singer, 2011. The initial value and epsilon are those of MXNet, which the
        authors of the paper on AFF used.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=settings.weight_decay_mask),
        optax.adagrad(settings.schedule, initial_accumulator_value=0.0, eps=1e-7),
    )


OPTIMIZERS: dict[str, Callable[[Settings], Optimizer]] = {
    "sgd": sgd,
    "adamw": adamw,
    "lars": lars,
    "adagrad": adagrad,
}
"""Optimizers by name."""


def kernels(params: Any) -> Any:
    """Mask all parameters except those named `scale` or `bias`.

    Those belong to batch norms and biases, which weight decay does not regularize.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )


def everything(params: Any) -> Any:
    """Mask all parameters, as the authors' code for CIFAR does."""
    return jax.tree.map(lambda _: True, params)


WEIGHT_DECAY_MASKS: dict[str, Callable[[Any], Any]] = {"kernels": kernels, "all": everything}
"""Masks of the parameters that weight decay acts on, by name."""


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
    weight_decay_mask: str = "kernels",
    clip_norm: float = 0.0,
) -> Optimizer:
    """Make an optimizer, with gradient clipping before it if `clip_norm` is not 0.

    Clipping uses the norm over all parameters::

        gradient <- gradient * min(1, clip_norm / |gradient|)

    Args:
        name: Name in `OPTIMIZERS`.
        schedule: Learning rate as a function of the step.
        momentum: Momentum, or beta1 of AdamW.
        weight_decay: Coefficient of weight decay.
        weight_decay_mask: Name in `WEIGHT_DECAY_MASKS`.
        clip_norm: Largest norm of the gradients, or 0 for no clipping.

    Raises:
        ValueError: A name is not in its table.
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
