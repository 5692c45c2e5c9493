"""Impossible numbers in a config are refused, all in one message."""

import math

import pytest

from configs import base
from train.config_checks import RANGES, check_config


def test_accepts_the_defaults():
    check_config(base.get_config())


def test_every_numeric_field_has_a_range():
    config = base.get_config()
    numeric = {k for k, v in config.items() if isinstance(v, int | float) and v is not True}
    # `parse_image_size` checks image_size, which may also be (height, width).
    numeric -= {"image_size"}
    assert {k for k in numeric if not isinstance(config[k], bool)} == set(RANGES)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", -3.0, "above 0"),
        ("epochs", math.inf, "above 0"),
        ("eval_every_epochs", 0.0, "above 0"),
        ("eval_batch_size", 0, "of at least 1"),
        ("log_every_steps", 0, "of at least 1"),
        ("keep_checkpoints", 0, "of at least 1"),
        ("seed", -1, "of at least 0 and at most"),
        ("crop_padding", -1, "of at least 0"),
        ("momentum", 2.0, "of at least 0 and at most 1"),
        ("learning_rate", math.nan, "above 0"),
    ],
)
def test_refuses_a_number_out_of_range(field, value, allowed):
    config = base.get_config()
    config[field] = value
    with pytest.raises(ValueError, match=f"{field}: expected a number {allowed}"):
        check_config(config)


def test_lists_every_wrong_field_and_refuses_a_warmup_as_long_as_the_run():
    config = base.get_config()
    config.update(seed=-1, momentum=-1.0, warmup_epochs=60.0)
    with pytest.raises(ValueError) as error:
        check_config(config)
    message = str(error.value)
    assert "seed" in message
    assert "momentum" in message
    assert "warmup_epochs: expected fewer than epochs, 60, got 60" in message


def test_refuses_more_epochs_without_mixing_than_the_run_has():
    config = base.get_config()
    config.mix_off_epochs = config.epochs
    check_config(config)
    config.mix_off_epochs = config.epochs + 1
    with pytest.raises(ValueError, match="mix_off_epochs: expected at most epochs, 60, got 61"):
        check_config(config)


def test_refuses_to_recalibrate_frozen_statistics():
    config = base.get_config()
    config.frozen_submodules, config.recalibration_batches = ("stem",), 1
    with pytest.raises(ValueError, match="frozen statistics cannot be recomputed"):
        check_config(config)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.25), (0.5, 1.5), (0.5,)])
def test_refuses_a_scale_of_crops_that_is_not_possible(scale):
    config = base.get_config()
    config.crop_scale = scale
    with pytest.raises(ValueError, match=r"crop_scale: expected \(smallest, largest\) share"):
        check_config(config)


def test_refuses_a_scale_of_crops_without_random_crops():
    config = base.get_config()
    config.crop_scale = (0.25, 1.0)
    with pytest.raises(ValueError, match=r"crop_scale: expected random_resized_crop=True with"):
        check_config(config)
    config.random_resized_crop = True
    check_config(config)
