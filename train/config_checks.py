"""Check the numbers of a config against their allowed ranges."""

import math
from typing import NamedTuple

from ml_collections import ConfigDict

from train.data.sources.random_crop import CROP_AREAS

__all__ = ["RANGES", "Range", "check_config"]


class Range(NamedTuple):
    """A range of finite numbers.

    Attributes:
        low: Smallest number.
        high: Largest number.
        exclusive: Whether `low` itself is not allowed.
    """

    low: float
    high: float = math.inf
    exclusive: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value) or value > self.high:
            return False
        return value > self.low if self.exclusive else value >= self.low

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.exclusive else f"of at least {self.low:g}"
        return low if self.high == math.inf else f"{low} and at most {self.high:g}"


RANGES = {
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
    "epochs": Range(0, exclusive=True),
    "learning_rate": Range(0, exclusive=True),
    "warmup_epochs": Range(0),
    "momentum": Range(0, 1),
    "weight_decay": Range(0),
    "decay_factor": Range(0, 1, exclusive=True),
    "clip_norm": Range(0),
    "eval_every_epochs": Range(0, exclusive=True),
    "accumulation": Range(1),
    "ema_decay": Range(0, 1),
    "max_skipped_steps": Range(1),
    "recalibration_batches": Range(0),
    "keep_checkpoints": Range(1),
    "checkpoint_every_minutes": Range(0),
    "log_every_steps": Range(1),
    "data_timeout_seconds": Range(0, exclusive=True),
}
"""Allowed range of every numeric field of configs/base.py."""


def check_config(config: ConfigDict) -> None:
    """Check that the numbers of a config are possible, each by itself and together.

    Args:
        config: A config with the fields of configs/base.py.

    Raises:
        ValueError: If some are not. The message lists each field, its allowed range and its value.
    """
    errors = [
        f"  {field}: expected a number {allowed}, got {config[field]}"
        for field, allowed in RANGES.items()
        if config[field] not in allowed
    ]
    if config.warmup_epochs >= config.epochs:
        errors.append(
            f"  warmup_epochs: expected fewer than epochs, {config.epochs:g}, got "
            f"{config.warmup_epochs:g}: the learning rate would never decay. Set "
            f"--config.warmup_epochs=0 for a short run"
        )
    decays = list(config.decay_epochs)
    if not all(0 < epoch < config.epochs for epoch in decays) or decays != sorted(set(decays)):
        errors.append(
            f"  decay_epochs: expected ascending numbers between 0 and epochs, {config.epochs:g}, "
            f"got {tuple(decays)}; for a shorter run set "
            f"--config.decay_epochs='(30.0, 35.0)' or '()'"
        )
    if config.mix_off_epochs > config.epochs:
        errors.append(
            f"  mix_off_epochs: expected at most epochs, {config.epochs:g}, got "
            f"{config.mix_off_epochs:g}: no step would be left to mix in"
        )
    scale = tuple(config.crop_scale)
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        errors.append(
            f"  crop_scale: expected (smallest, largest) share of an image's area, above 0 and at "
            f"most 1, such as '(0.25, 1.0)', got {scale}"
        )
    if scale != CROP_AREAS and not config.random_resized_crop:
        errors.append(
            f"  crop_scale: expected random_resized_crop=True with {scale}, got False: no random "
            f"crop would use it"
        )
    if config.frozen_submodules and config.recalibration_batches > 0:
        errors.append(
            f"  recalibration_batches: expected 0 with "
            f"frozen_submodules={tuple(config.frozen_submodules)}, got "
            f"{config.recalibration_batches}: frozen statistics cannot be recomputed"
        )
    if errors:
        raise ValueError("the config has numbers that are not possible:\n" + "\n".join(errors))
