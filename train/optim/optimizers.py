"""Optimizers, and masks of the parameters to which weight decay is applied."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from aff_jax.lookup import look_up

__all__ = [
    "OPTIMIZERS",
    "WEIGHT_DECAY_MASKS",
    "OptimizerSettings",
    "adagrad",
    "adamw",
    "create_optimizer",
    "everything",
    "kernels",
    "lars",
    "sgd",
]


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Hyperparameters of the optimizers. Each optimizer uses those that it has.

    Attributes:
        schedule: Learning rate as a function of the number of updates, without skipped steps.
        momentum: Momentum, or beta1 of AdamW.
        weight_decay: Coefficient of weight decay.
        weight_decay_mask: Maps parameters to a tree of booleans, True where weight decay is
            applied. Elsewhere `weight_decay` is 0 in the formulas.
    """

    schedule: optax.Schedule
    momentum: float
    weight_decay: float
    weight_decay_mask: Callable[[Any], Any]


def sgd(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Make stochastic gradient descent with Nesterov momentum and L2 regularization.

    The update of a parameter w, with its gradient and the learning rate `rate`, is::

        g <- gradient + weight_decay * w
        m <- g + momentum * m
        w <- w - rate * (g + momentum * m)

    Args:
        settings: Hyperparameters.

    Returns:
        The optimizer.

    References:
        SGD with `nesterov` in PyTorch and MXNet.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=settings.weight_decay_mask),
        optax.sgd(settings.schedule, momentum=settings.momentum, nesterov=True),
    )


def adamw(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Make AdamW: Adam with decoupled weight decay.

    The update of a parameter w, with its gradient and the learning rate `rate`, is::

        m <- beta1 * m + (1 - beta1) * gradient
        v <- beta2 * v + (1 - beta2) * gradient^2
        w <- w - rate * (m_hat / (sqrt(v_hat) + 1e-8) + weight_decay * w)

    where beta1 is `momentum`, beta2 is 0.999, and m_hat and v_hat are m and v divided by one minus
    the power of beta1 and beta2 with the number of updates.

    Args:
        settings: Hyperparameters.

    Returns:
        The optimizer.

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """
    return optax.adamw(
        settings.schedule,
        b1=settings.momentum,
        b2=0.999,
        eps=1e-8,
        weight_decay=settings.weight_decay,
        mask=settings.weight_decay_mask,
    )


def lars(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Make LARS, layer-wise adaptive rate scaling, for batches of many thousands of examples.

    The update of a parameter w, with its gradient and the learning rate `rate`, is::

        g <- gradient + weight_decay * w
        g <- g * 0.001 * |w| / |g|                  where weight decay is applied
        m <- rate * g + momentum * m
        w <- w - m

    Args:
        settings: Hyperparameters.

    Returns:
        The optimizer.

    References:
        You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks, 2017, algorithm 1.
        As is usual, biases and batch norms are not rescaled.
    """
    return optax.lars(
        settings.schedule,
        weight_decay=settings.weight_decay,
        weight_decay_mask=settings.weight_decay_mask,
        trust_coefficient=0.001,
        eps=0.0,
        trust_ratio_mask=settings.weight_decay_mask,
        momentum=settings.momentum,
    )


def adagrad(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Make Adagrad with L2 regularization and without momentum.

    The update of a parameter w, with its gradient and the learning rate `rate`, is::

        g <- gradient + weight_decay * w
        h <- h + g^2                            initially zero
        w <- w - rate * g / sqrt(h + 1e-7)

    Args:
        settings: Hyperparameters. The momentum is not used.

    Returns:
        The optimizer.

    References:
        Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and Stochastic
        Optimization, 2011. The initial value and epsilon follow MXNet, which the authors of the
        paper on AFF used.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=settings.weight_decay_mask),
        optax.adagrad(settings.schedule, initial_accumulator_value=0.0, eps=1e-7),
    )


OPTIMIZERS: dict[str, Callable[[OptimizerSettings], optax.GradientTransformation]] = {
    "sgd": sgd,
    "adamw": adamw,
    "lars": lars,
    "adagrad": adagrad,
}
"""Functions that make an optimizer from its settings, by name."""


def kernels(params: Any) -> Any:
    """Select all parameters except those named `scale` or `bias`.

    Weight decay is usually not applied to batch norms and biases.

    Args:
        params: Parameters of the network.

    Returns:
        A tree of booleans.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )


def everything(params: Any) -> Any:
    """Select all parameters, as in the authors' code for CIFAR.

    Args:
        params: Parameters of the network.

    Returns:
        A tree of booleans.
    """
    return jax.tree.map(lambda _: True, params)


WEIGHT_DECAY_MASKS: dict[str, Callable[[Any], Any]] = {"kernels": kernels, "all": everything}
"""Functions that select the parameters to which weight decay is applied, by name."""


def create_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
    weight_decay_mask: str = "kernels",
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Create an optimizer by name, preceded by gradient clipping if `clip_norm` is not 0.

    Clipping uses the norm over all parameters::

        gradient <- gradient * min(1, clip_norm / |gradient|)

    Args:
        name: Name in `OPTIMIZERS`.
        schedule: Learning rate as a function of the number of updates, without skipped steps.
        momentum: Momentum, or beta1 of AdamW.
        weight_decay: Coefficient of weight decay.
        weight_decay_mask: Name in `WEIGHT_DECAY_MASKS`.
        clip_norm: Largest norm of the gradients, or 0 for no clipping.

    Returns:
        The optimizer.

    Raises:
        ValueError: If a name is not in its table.
    """
    settings = OptimizerSettings(
        schedule,
        momentum,
        weight_decay,
        look_up(WEIGHT_DECAY_MASKS, "weight decay mask", weight_decay_mask),
    )
    optimizer = look_up(OPTIMIZERS, "optimizer", name)(settings)
    if not clip_norm:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
