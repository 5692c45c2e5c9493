"""Find the largest batch that fits, and what makes a config fit that does not."""

import copy
import dataclasses
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from aff_jax.hosts.registry import HOSTS
from aff_jax.lookup import accepted_fields
from train.plan.estimate import Plan

__all__ = ["Search", "batch_that_may_fit", "search"]

PlanOf = Callable[[ConfigDict], Plan]

_PRECISION = 8
"""The largest batch is found to this part of it, since every batch is compiled."""


@dataclasses.dataclass(frozen=True)
class Search:
    """Result of a search.

    Attributes:
        largest: Plan with the largest batch that was found to fit; None if none fits.
        remedies: Plans of the config's own batch that fit, if it does not fit as it is: the flags
            that make it fit, and the plan.
    """

    largest: Plan | None
    remedies: dict[str, Plan]


def search(config: ConfigDict, plan_of: PlanOf, devices: int, examples: int) -> Search:
    """Search the largest batch that fits.

    Args:
        config: The config. Its batch size is the first that is tried.
        plan_of: Makes the plan of a config.
        devices: Number of devices.
        examples: Number of training examples, the largest batch that is tried.

    Returns:
        The result.
    """
    unit = devices * config.accumulation

    def at(multiple: int) -> Plan:
        return plan_of(_with(config, batch_size=multiple * unit))

    first = plan_of(config)
    low, high, best = _bracket(at, config.batch_size // unit, max(1, examples // unit), first)
    while high - low > max(1, low // _PRECISION):
        middle = _middle(low, high)
        plan = at(middle)
        low, high, best = (middle, high, plan) if plan.fits else (low, middle, best)
    remedies = {} if first.fits else dict(_remedies(config, plan_of, devices))
    return Search(best, remedies)


def batch_that_may_fit(plan: Plan) -> int:
    """Return a batch that probably fits, by the memory that a plan needs per example.

    The state takes four values per parameter at most: parameters, momentum, gradients and averages.

    Args:
        plan: A plan that does not fit.

    Returns:
        A multiple of the devices and microbatches, 0 if not even the state fits.
    """
    fixed = 16 * plan.parameters * plan.devices // plan.chips + plan.cached_bytes_per_chip
    unit = plan.devices * plan.accumulation
    needed = max(plan.memory_bytes_per_chip - fixed, 1)
    share = max(plan.available_bytes_per_chip - fixed, 0) / needed
    return int(share * plan.batch_size) // unit * unit


def _bracket(
    at: Callable[[int], Plan], start: int, most: int, first: Plan
) -> tuple[int, int, Plan | None]:
    """Return a multiple that fits, one that does not, and the plan of the first."""
    if first.fits:
        low, best = start, first
        while 2 * low <= most:
            plan = at(2 * low)
            if not plan.fits:
                return low, 2 * low, best
            low, best = 2 * low, plan
        return low, low + 1, best
    high = start
    while high > 1:
        plan = at(high // 2)
        if plan.fits:
            return high // 2, high, plan
        high //= 2
    return 0, high, None


def _middle(low: int, high: int) -> int:
    """Return a multiple between both: a round number near the middle."""
    middle = (low + high) // 2
    step = max(1, low // _PRECISION)
    return max(low + 1, middle // step * step)


def _remedies(config: ConfigDict, plan_of: PlanOf, devices: int) -> Iterator[tuple[str, Plan]]:
    """Yield the flags that make the config's own batch fit, and their plans."""
    per_device = config.batch_size // devices
    # Powers of two divide most batches, and the first that fits costs the least time.
    for accumulation in (2, 4, 8, 16, 32):
        if accumulation <= config.accumulation or per_device % accumulation:
            continue
        plan = plan_of(_with(config, accumulation=accumulation))
        if plan.fits:
            yield f"--config.accumulation={accumulation}", plan
            break
    if accepted_fields(HOSTS[config.model], {"remat": True}) and not config.model_fields.get(
        "remat"
    ):
        changed = _with(config)
        with changed.unlocked():
            changed.model_fields.remat = True
        plan = plan_of(changed)
        if plan.fits:
            yield "--config.model_fields.remat=True", plan


def _with(config: ConfigDict, **fields: int) -> ConfigDict:
    changed: ConfigDict = copy.deepcopy(config)
    for name, value in fields.items():
        changed[name] = value
    return changed
