"""Plans are kept by config, topology, versions and source code."""

import pytest

from configs import digits
from tests.train.plan.made import made_plan
from tests.train.plan.programs import TPU
from train.plan import cache
from train.plan.cache import PlanCache


@pytest.fixture
def config():
    return digits.get_config()


def test_a_plan_is_read_as_it_was_kept(config, tmp_path):
    plan = made_plan(config, text=TPU)
    plans = PlanCache(tmp_path / "plans")
    assert plans.get(config, "v5e:2x2") is None
    plans.put(config, "v5e:2x2", plan)
    assert plans.get(config, "v5e:2x2") == plan
    assert plans.get(config, "v5e:4x4") is None
    config.seed = 1  # changes no program
    assert plans.get(config, "v5e:2x2") == plan
    config.fusion = "iaff"
    assert plans.get(config, "v5e:2x2") is None


@pytest.mark.parametrize("name", ["versions", "_source_digest"])
def test_other_versions_and_other_code_need_another_plan(config, tmp_path, monkeypatch, name):
    plans = PlanCache(tmp_path)
    plans.put(config, "v5e:2x2", made_plan(config))
    monkeypatch.setattr(cache, name, lambda: "other")
    assert plans.get(config, "v5e:2x2") is None


def test_a_damaged_plan_is_made_again(config, tmp_path):
    plans = PlanCache(tmp_path)
    plans.put(config, "v5e:2x2", made_plan(config))
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert plans.get(config, "v5e:2x2") is None


def test_nothing_is_kept_without_a_directory(config):
    plans = PlanCache(None)
    plans.put(config, "v5e:2x2", made_plan(config))
    assert plans.get(config, "v5e:2x2") is None
