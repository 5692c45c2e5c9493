"""How the learning rate goes over the steps: one table of names."""

from collections.abc import Callable, Sequence

import optax

from aff_jax.lookup import look_up

__all__ = ["SCHEDULES", "learning_rate_schedule"]


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


def constant(peak: float, steps: int) -> optax.Schedule:
    """rate(t) = peak."""
    del steps
    return optax.constant_schedule(peak)


SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "cosine": cosine,
    "poly": poly,
    "constant": constant,
}
"""From `peak` at step 0 to where they are at step `steps`."""


def learning_rate_schedule(
    name: str,
    peak: float,
    *,
    warmup_steps: int,
    total_steps: int,
    decay_steps: Sequence[int] = (),
    decay_factor: float = 0.1,
) -> optax.Schedule:
    """Linear warm-up from zero to `peak`, then a schedule of the table until `total_steps`.

        rate(t) = peak * t / warmup_steps                                    before warmup_steps
        rate(t) = SCHEDULES[name](peak, total - warmup)(t - warmup) * f^d    after

    d is how many of `decay_steps` lie at or before t, and f the `decay_factor`. "constant" with
    them is what is called a step schedule. A run that is shorter than its warm-up warms up until
    its last step.

    Raises:
        ValueError: no schedule has that name.
    """
    warmup_steps = min(warmup_steps, total_steps - 1)
    after = look_up(SCHEDULES, "schedule", name)(peak, total_steps - warmup_steps)
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    joined = optax.join_schedules([warmup, after], [warmup_steps])
    if not decay_steps:
        return joined
    drops = optax.piecewise_constant_schedule(1.0, dict.fromkeys(decay_steps, decay_factor))
    return lambda step: joined(step) * drops(step)
