"""Find the largest batch that fits, and what makes a config fit that does not."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from aff_jax.hosts.registry import MODELS
from aff_jax.lookup import accepted_fields
from train.plan.estimate import Plan

__all__ = ["Search", "batch_that_may_fit", "possible_remedies", "search"]

_PlanOf = Callable[[ConfigDict], Plan]

_PRECISION = 8
"""The search stops within 1 / 8 of the largest batch, since each try compiles a program."""

_ACCUMULATIONS = (2, 4, 8, 16, 32)
"""Numbers of microbatches that are tried.

Powers of two divide most batches, and the first that fits costs the least time.
"""


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


def search(config: ConfigDict, plan_of: _PlanOf, devices: int, examples: int) -> Search:
    """Search for the largest batch that fits.

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
        return plan_of(_with(config, {"batch_size": multiple * unit}))

    first = plan_of(config)
    low, high, best = _bracket(at, config.batch_size // unit, max(1, examples // unit), first)
    while high - low > max(1, low // _PRECISION):
        middle = _middle(low, high)
        plan = at(middle)
        low, high, best = (middle, high, plan) if plan.fits else (low, middle, best)
    remedies = {} if first.fits else _remedies(config, plan_of, devices)
    return Search(best, remedies)


def batch_that_may_fit(plan: Plan) -> int:
    """Return a batch that probably fits, by the memory that a plan needs per example.

    The state is counted as four float32 values per parameter: parameters, momentum, gradients and
    averages. AdamW with averages has five.

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


def possible_remedies(config: ConfigDict, devices: int) -> tuple[list[int], bool]:
    """Return the changes of a config that save memory, keep its batch, and are possible.

    Args:
        config: The config.
        devices: Number of devices.

    Returns:
        A tuple of the values of `accumulation` that are larger than the config's value and divide
        the batch of a device, and whether the network has a `remat` that is off.
    """
    per_device = config.batch_size // devices
    accumulations = [x for x in _ACCUMULATIONS if x > config.accumulation and per_device % x == 0]
    has_remat = bool(accepted_fields(MODELS[config.model], {"remat": True}))
    return accumulations, has_remat and not config.model_fields.get("remat")


def _bracket(
    at: Callable[[int], Plan], start: int, most: int, first: Plan
) -> tuple[int, int, Plan | None]:
    """Return a multiple that fits, a larger one that does not, and the plan of the first.

    The larger one is `most` + 1 if `most` fits.
    """
    if first.fits:
        low, best = start, first
        while low < most:
            high = min(2 * low, most)
            plan = at(high)
            if not plan.fits:
                return low, high, best
            low, best = high, plan
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


def _remedies(config: ConfigDict, plan_of: _PlanOf, devices: int) -> dict[str, Plan]:
    """Return the flags that make the config's own batch fit, and their plans.

    These are accumulation alone, remat alone, and both together if neither suffices.
    """
    accumulations, has_remat = possible_remedies(config, devices)
    remat: list[Mapping[str, Any]] = [{"remat": True}] if has_remat else []
    alone: list[Mapping[str, Any]] = [{"accumulation": x} for x in accumulations]
    together = [{**fields, **other} for fields in alone for other in remat]
    fitting = {
        **_first_that_fits(config, plan_of, alone),
        **_first_that_fits(config, plan_of, remat),
    }
    return fitting or _first_that_fits(config, plan_of, together)


def _first_that_fits(
    config: ConfigDict, plan_of: _PlanOf, changes: Sequence[Mapping[str, Any]]
) -> dict[str, Plan]:
    """Return the flags of the first changes that make the config fit, and the plan."""
    for fields in changes:
        plan = plan_of(_with(config, fields))
        if plan.fits:
            flags = (
                f"--config.{'model_fields.' if name == 'remat' else ''}{name}={value}"
                for name, value in fields.items()
            )
            return {" ".join(flags): plan}
    return {}


def _with(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """Return a copy of a config with other fields; `remat` is one of its network."""
    changed: ConfigDict = copy.deepcopy(config)
    with changed.unlocked():
        for name, value in fields.items():
            target = changed.model_fields if name == "remat" else changed
            target[name] = value
    return changed
