"""The search for a batch that fits, with plans whose memory is a line."""

import pytest

from configs import digits
from tests.train.plan.made import made_plan
from tests.train.plan.programs import TPU
from train.plan.search import batch_that_may_fit, search

DEVICES = 2


@pytest.fixture
def config():
    config = digits.get_config()
    config.batch_size = 64
    config.model = "cifar_resnet8"
    config.lock()
    return config


def planner(per_example, tried):
    """Return a function that makes plans with 1 GiB and `per_example` GiB of memory per device."""

    def plan_of(config):
        remat = 4 if config.model_fields.get("remat") else 1
        examples = config.batch_size / DEVICES / config.accumulation / remat
        gib = 1 + per_example * examples
        tried.append(config.batch_size)
        return made_plan(config, gib=gib, text=TPU if gib < 15.75 else None, count=DEVICES)

    return plan_of


def test_the_largest_batch_is_found_to_an_eighth(config):
    tried: list[int] = []
    result = search(config, planner(0.1, tried), DEVICES, 10_000)
    assert result.largest is not None
    assert 147 * 2 * 7 / 8 <= result.largest.batch_size <= 147 * 2
    assert len(tried) <= 8
    assert not result.remedies


def test_a_config_that_does_not_fit_has_remedies(config):
    result = search(config, planner(1.0, []), DEVICES, 10_000)
    assert result.largest is not None
    assert 24 <= result.largest.batch_size <= 28
    assert list(result.remedies) == ["--config.accumulation=4", "--config.model_fields.remat=True"]
    assert all(plan.fits and plan.batch_size == 64 for plan in result.remedies.values())
    assert "remat" not in config.model_fields


def test_accumulation_and_remat_are_combined_where_neither_suffices(config):
    config.batch_size = 16
    result = search(config, planner(20.0, []), DEVICES, 10_000)
    # 20 GiB for an example, and a quarter of it with remat: two examples fit, one without does not.
    assert list(result.remedies) == ["--config.accumulation=4 --config.model_fields.remat=True"]
    assert result.largest is None


def test_not_even_one_example_fits(config):
    result = search(config, planner(100.0, []), DEVICES, 10_000)
    assert result.largest is None
    assert not result.remedies


def test_the_batch_is_at_most_the_dataset(config):
    tried: list[int] = []
    result = search(config, planner(0.0, tried), DEVICES, 201)
    assert result.largest is not None
    assert result.largest.batch_size == max(tried) == 200


def test_the_last_batch_below_the_dataset_is_bounded_by_the_memory(config):
    result = search(config, planner(0.2, []), DEVICES, 190)
    assert result.largest is not None
    # 147 fit, 190 do not.
    assert 147 * 7 / 8 <= result.largest.batch_size <= 147


def test_a_batch_that_may_fit_follows_from_the_memory_of_an_example(config):
    plan = planner(1.0, [])(config)
    assert batch_that_may_fit(plan) == pytest.approx(15.75 / 33 * 64, abs=2)
