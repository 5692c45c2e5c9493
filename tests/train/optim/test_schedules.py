"""The schedules against their equations."""

import math

import pytest

from train.optim.schedules import SCHEDULES, create_schedule


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (0, 7)])
def test_cosine_with_warmup(warmup, total):
    schedule = create_schedule("cosine", 0.5, warmup_steps=warmup, total_steps=total)
    for step in range(total + 1):
        if step < warmup:
            expected = 0.5 * step / warmup
        else:
            expected = 0.25 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        assert schedule(step) == pytest.approx(expected, abs=1e-6)


def test_a_run_may_be_shorter_than_its_warmup():
    for name in SCHEDULES:
        schedule = create_schedule(name, 0.5, warmup_steps=10, total_steps=1)
        assert schedule(0) == 0.5


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (0, 7)])
def test_poly_with_warmup(warmup, total):
    schedule = create_schedule("poly", 0.5, warmup_steps=warmup, total_steps=total)
    for step in range(total + 1):
        left = 1 - (step - warmup) / (total - warmup)
        expected = 0.5 * step / warmup if step < warmup else 0.5 * left**0.9
        assert schedule(step) == pytest.approx(expected, abs=1e-6)


def test_a_step_schedule_decays_at_its_steps():
    schedule = create_schedule(
        "constant", 0.5, warmup_steps=2, total_steps=20, decay_steps=[5, 10], decay_factor=0.2
    )
    expected = [0.0, 0.25] + [0.5] * 3 + [0.1] * 5 + [0.02] * 10
    assert [float(schedule(step)) for step in range(20)] == pytest.approx(expected)


def test_decay_steps_multiply_any_schedule():
    plain = create_schedule("cosine", 0.5, warmup_steps=2, total_steps=20)
    decayed = create_schedule(
        "cosine", 0.5, warmup_steps=2, total_steps=20, decay_steps=[7], decay_factor=0.5
    )
    for step in range(20):
        assert decayed(step) == pytest.approx(plain(step) * (0.5 if step >= 7 else 1))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"unknown schedule 'ploy'\. Did you mean 'poly'"):
        create_schedule("ploy", 0.5, warmup_steps=0, total_steps=1)
