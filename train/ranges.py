"""Which numbers a config may hold."""

import math
from typing import NamedTuple

from ml_collections import ConfigDict

__all__ = ["RANGES", "check_ranges"]


class Range(NamedTuple):
    """Numbers from `low` on, or above it where `above`, up to `high`."""

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value) or value > self.high:
            return False
        return value > self.low if self.above else value >= self.low

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        return low if self.high == math.inf else f"{low} and at most {self.high:g}"


RANGES = {
    "crop_padding": Range(0),
    "seed": Range(0, 2**32 - 1),
    "batch_size": Range(1),
    "eval_batch_size": Range(1),
    "epochs": Range(0, above=True),
    "learning_rate": Range(0, above=True),
    "warmup_epochs": Range(0),
    "momentum": Range(0, 1),
    "weight_decay": Range(0),
    "eval_every_epochs": Range(0, above=True),
    "keep_checkpoints": Range(1),
    "checkpoint_every_minutes": Range(0),
    "log_every_steps": Range(1),
    "feed_timeout_seconds": Range(0, above=True),
}
"""Every numeric field of configs/base.py."""


def check_ranges(config: ConfigDict) -> None:
    """Refuse numbers that no run can do anything with.

    Raises:
        ValueError: lists every field that is out of range, what it may be, and what it is.
    """
    wrong = [
        f"  {field}: expected a number {allowed}, got {config[field]}"
        for field, allowed in RANGES.items()
        if config[field] not in allowed
    ]
    if config.warmup_epochs >= config.epochs:
        wrong.append(
            f"  warmup_epochs: expected fewer than epochs, {config.epochs:g}, got "
            f"{config.warmup_epochs:g}: the learning rate would never fall"
        )
    if wrong:
        raise ValueError("the config holds numbers that are not possible:\n" + "\n".join(wrong))
