"""The optimizer and its schedule."""

from typing import Any

import jax
import optax

__all__ = ["decayed_parameters", "learning_rate_schedule", "make_optimizer"]


def learning_rate_schedule(peak: float, *, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up from zero to `peak`, then a cosine to zero at `total_steps`.

        rate(t) = peak * t / warmup_steps                                      before warmup_steps
        rate(t) = peak / 2 * (1 + cos(pi * (t - warmup) / (total - warmup)))   after

    Source: Loshchilov and Hutter, 2017, equation 5, with one period.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=min(warmup_steps, total_steps - 1),
        decay_steps=total_steps,
    )


def make_optimizer(
    schedule: optax.Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Stochastic gradient descent with Nesterov momentum and weight decay of kernels.

        g <- gradient + weight_decay * w       for kernels
        m <- g + momentum * m
        w <- w - rate * (g + momentum * m)

    The decay is part of the gradient, as in PyTorch's and MXNet's SGD.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decayed_parameters),
        optax.sgd(schedule, momentum=momentum, nesterov=True),
    )


def decayed_parameters(params: Any) -> Any:
    """Which parameters are decayed: all but those called `scale` or `bias`.

    These belong to batch norms and biases, where decay is not regularisation.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )
