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
    "image_size": Range(0),
    "image_channels": Range(0, 3),
    "device_cache_mib": Range(0),
    "data_workers": Range(0),
    "crop_padding": Range(0),
    "color_jitter": Range(0, 1),
    "pca_lighting": Range(0),
    "random_erasing": Range(0, 1),
    "mixup_alpha": Range(0),
    "cutmix_alpha": Range(0),
    "mix_off_epochs": Range(0),
    "label_smoothing": Range(0, 1),
    "seed": Range(0, 2**32 - 1),
    "batch_size": Range(1),
    "eval_batch_size": Range(1),
    "epochs": Range(0, above=True),
    "learning_rate": Range(0, above=True),
    "warmup_epochs": Range(0),
    "momentum": Range(0, 1),
    "weight_decay": Range(0),
    "decay_factor": Range(0, 1, above=True),
    "clip_norm": Range(0),
    "eval_every_epochs": Range(0, above=True),
    "accumulation": Range(1),
    "ema_decay": Range(0, 1),
    "max_skipped_steps": Range(1),
    "recalibration_batches": Range(0),
    "keep_checkpoints": Range(1),
    "checkpoint_every_minutes": Range(0),
    "log_every_steps": Range(1),
    "data_timeout_seconds": Range(0, above=True),
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
    drops = list(config.decay_epochs)
    if not all(0 < drop < config.epochs for drop in drops) or drops != sorted(set(drops)):
        wrong.append(
            f"  decay_epochs: expected ascending numbers between 0 and epochs, {config.epochs:g}, "
            f"got {tuple(drops)}; for a shorter run set "
            f"--config.decay_epochs='(30.0, 35.0)' or '()'"
        )
    if config.mix_off_epochs > config.epochs:
        wrong.append(
            f"  mix_off_epochs: expected at most epochs, {config.epochs:g}, got "
            f"{config.mix_off_epochs:g}: no step would be left to mix in"
        )
    if wrong:
        raise ValueError("the config holds numbers that are not possible:\n" + "\n".join(wrong))
