"""Optimizers and schedules of the learning rate: two tables of names."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from aff_jax.tables import look_up

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "decayed_parameters",
    "learning_rate_schedule",
    "make_optimizer",
]


def cosine(peak: float, steps: int) -> optax.Schedule:
    """rate(t) = peak / 2 * (1 + cos(pi * t / steps)).

    Source: Loshchilov and Hutter, SGDR, 2017, equation 5, with one period.
    """
    return optax.cosine_decay_schedule(peak, steps)


def poly(peak: float, steps: int) -> optax.Schedule:
    """rate(t) = peak * (1 - t / steps)^0.9.

    Source: Chen et al., DeepLab, 2018, section 4.1.
    """
    return optax.polynomial_schedule(peak, end_value=0.0, power=0.9, transition_steps=steps)


SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {"cosine": cosine, "poly": poly}
"""From `peak` at step 0 to zero at step `steps`."""


def learning_rate_schedule(
    name: str, peak: float, *, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """Linear warm-up from zero to `peak`, then a schedule of the table to zero at `total_steps`.

        rate(t) = peak * t / warmup_steps                          before warmup_steps
        rate(t) = SCHEDULES[name](peak, total - warmup)(t - warmup)   after

    A run that is shorter than its warm-up warms up until its last step.

    Raises:
        ValueError: no schedule has that name.
    """
    warmup_steps = min(warmup_steps, total_steps - 1)
    falling = look_up(SCHEDULES, "schedule", name)(peak, total_steps - warmup_steps)
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, falling], [warmup_steps])


def sgd(schedule: optax.Schedule, momentum: float) -> optax.GradientTransformation:
    """Stochastic gradient descent with Nesterov momentum.

    m <- g + momentum * m
    w <- w - rate * (g + momentum * m)
    """
    return optax.sgd(schedule, momentum=momentum, nesterov=True)


def adagrad(schedule: optax.Schedule, momentum: float) -> optax.GradientTransformation:
    """Adagrad, which has no momentum.

        h <- h + g^2                            from zero
        w <- w - rate * g / sqrt(h + 1e-7)

    Source: Duchi, Hazan, Singer, 2011; start and epsilon as in MXNet, which the authors used.
    """
    del momentum
    return optax.adagrad(schedule, initial_accumulator_value=0.0, eps=1e-7)


OPTIMIZERS: dict[str, Callable[[optax.Schedule, float], optax.GradientTransformation]] = {
    "sgd": sgd,
    "adagrad": adagrad,
}


def make_optimizer(
    name: str, schedule: optax.Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """An optimizer of the table on gradients with weight decay of kernels.

    g <- gradient + weight_decay * w       for kernels

    The decay is part of the gradient, as in PyTorch's and MXNet's SGD.

    Raises:
        ValueError: no optimizer has that name.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decayed_parameters),
        look_up(OPTIMIZERS, "optimizer", name)(schedule, momentum),
    )


def decayed_parameters(params: Any) -> Any:
    """Which parameters are decayed: all but those called `scale` or `bias`.

    These belong to batch norms and biases, where decay is not regularisation.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )
