"""Learning rate schedules."""

from collections.abc import Callable, Sequence

import optax

from aff_jax.lookup import look_up

__all__ = [
    "SCHEDULES",
    "constant",
    "cosine",
    "create_schedule",
    "poly",
]


def cosine(peak: float, steps: int) -> optax.Schedule:
    """Decay from `peak` to zero along a half cosine.

    The learning rate is::

        rate(t) = peak / 2 * (1 + cos(pi * t / steps))

    Args:
        peak: Learning rate of step 0.
        steps: Number of steps.

    Returns:
        The schedule.

    References:
        Loshchilov and Hutter, SGDR, 2017, equation 5, with one period.
    """
    return optax.cosine_decay_schedule(peak, steps)


def poly(peak: float, steps: int) -> optax.Schedule:
    """Decay from `peak` to zero as a polynomial of power 0.9.

    The learning rate is::

        rate(t) = peak * (1 - t / steps)^0.9

    Args:
        peak: Learning rate of step 0.
        steps: Number of steps.

    Returns:
        The schedule.

    References:
        Chen et al., DeepLab, 2018, section 4.1.
    """
    return optax.polynomial_schedule(peak, end_value=0.0, power=0.9, transition_steps=steps)


def constant(peak: float, steps: int) -> optax.Schedule:
    """Keep the learning rate at `peak`.

    Args:
        peak: Learning rate of all steps.
        steps: Not used.

    Returns:
        The schedule.
    """
    del steps
    return optax.constant_schedule(peak)


SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "cosine": cosine,
    "poly": poly,
    "constant": constant,
}
"""Schedules by name, as functions of the peak and the number of steps."""


def create_schedule(
    name: str,
    peak: float,
    *,
    warmup_steps: int,
    total_steps: int,
    decay_steps: Sequence[int] = (),
    decay_factor: float = 0.1,
) -> optax.Schedule:
    """Create a schedule by name, with linear warmup.

    The learning rate is::

        rate(t) = peak * t / warmup_steps           before warmup_steps
        rate(t) = schedule(t - warmup_steps) * f^d  after

    where t is the number of updates, schedule is `SCHEDULES[name](peak, total_steps -
    warmup_steps)`, f is `decay_factor` and d is the number of `decay_steps` at or before t.
    "constant" with `decay_steps` is a step schedule. If the run is shorter than its warmup, the
    warmup ends at the last step.

    Args:
        name: Name in `SCHEDULES`.
        peak: Learning rate after warmup.
        warmup_steps: Number of warmup steps.
        total_steps: Number of steps of the run.
        decay_steps: Steps at which the learning rate is multiplied by `decay_factor`.
        decay_factor: Factor f.

    Returns:
        A function of the number of updates, from 0, that returns the learning rate. Skipped steps
        are no updates.

    Raises:
        ValueError: If the name is not in `SCHEDULES`.
    """
    warmup_steps = min(warmup_steps, total_steps - 1)
    after = look_up(SCHEDULES, "schedule", name)(peak, total_steps - warmup_steps)
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    joined = optax.join_schedules([warmup, after], [warmup_steps])
    if not decay_steps:
        return joined
    decay = optax.piecewise_constant_schedule(1.0, dict.fromkeys(decay_steps, decay_factor))
    return lambda step: joined(step) * decay(step)
