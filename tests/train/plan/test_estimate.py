"""Estimates against values computed by hand."""

import pytest

from configs import digits
from tests.train.plan.made import made_plan
from tests.train.plan.programs import TPU
from train.plan.chips import Chip
from train.plan.estimate import communication_seconds, torus

CHIP = Chip("x", "tpu", 1e14, 1e14, 2**30, 1e12, 400e9, 2, 256, 1e9, "", "")


def test_the_step_is_the_longest_bound_and_the_communication():
    plan = made_plan(digits.get_config(), text=TPU)
    assert plan.compute_seconds == pytest.approx(1e9 / 197e12)
    assert plan.memory_seconds == pytest.approx((plan.bytes_per_step or 0) / 2 / 819e9)
    assert plan.compiler_seconds == pytest.approx(4000 / 1.5e9)
    # One all-reduce of 68 bytes between two chips, with hops 2 + 1.
    assert plan.communication_seconds == pytest.approx(68 / 100e9 + 3e-6)
    longest = max(plan.compute_seconds, plan.compiler_seconds)
    assert plan.estimated_step_seconds == pytest.approx(longest + plan.communication_seconds)
    assert plan.images_per_second == pytest.approx(64 / plan.estimated_step_seconds)
    assert plan.hours == pytest.approx(100 * plan.estimated_step_seconds / 3600)
    assert plan.flops_per_step == 2 * 10**9


def test_a_program_that_the_compiler_refuses_does_not_fit():
    plan = made_plan(digits.get_config(), gib=20)
    assert not plan.fits
    assert plan.memory_bytes_per_chip == 20 * 2**30
    assert plan.estimated_step_seconds is plan.bytes_per_step is None


def test_a_program_fits_if_the_chip_has_the_memory():
    assert made_plan(digits.get_config(), text=TPU, gib=15.7).fits
    assert not made_plan(digits.get_config(), text=TPU, gib=15.8).fits


def test_gradients_pass_the_ring_over_two_links():
    # 100 MB, 7 / 8 of them twice, at 100 GB/s; one all-reduce of six hops.
    seconds = communication_seconds(CHIP, 8, 100e6, 1)
    assert seconds == pytest.approx(2 * 7 / 8 * 100e6 / 100e9 + 6e-6)


def test_one_chip_has_no_communication():
    assert communication_seconds(CHIP, 1, 100e6, 10) == 0


@pytest.mark.parametrize(
    ("chips", "axes", "sides"),
    [(1, 2, [1, 1]), (8, 2, [4, 2]), (64, 3, [4, 4, 4]), (256, 2, [16, 16]), (512, 3, [8, 8, 8])],
)
def test_a_torus_is_as_cubic_as_possible(chips, axes, sides):
    assert torus(chips, axes) == sides
