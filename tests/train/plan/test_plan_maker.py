"""Plans are compiled once, and kept by config, topology, versions and source code."""

import io

import pytest
from rich.console import Console

from configs import digits
from tests.train.plan.made import cpu_topology, made_plan
from tests.train.plan.programs import TPU
from train.plan import plan_maker
from train.plan.plan_maker import PlanCache, PlanMaker


def test_a_second_plan_is_read_and_needs_no_compiler(small_network, monkeypatch, tmp_path):
    monkeypatch.setattr(plan_maker, "describe_topology", lambda name: cpu_topology())
    console = Console(file=io.StringIO(), width=200)
    config = digits.get_config()
    plan = PlanMaker("v5e:2x2", PlanCache(tmp_path), console).plan(config)
    assert "compiling cifar_resnet8 with aff, batch 64, for v5e:2x2" in console.file.getvalue()
    assert plan.fits

    monkeypatch.setattr(plan_maker, "describe_topology", None)
    again = PlanMaker("v5e:2x2", PlanCache(tmp_path), console)
    assert again.plan(config) == plan


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
    monkeypatch.setattr(plan_maker, name, lambda: "other")
    assert plans.get(config, "v5e:2x2") is None


def test_a_damaged_plan_is_made_again(config, tmp_path):
    plans = PlanCache(tmp_path)
    plans.put(config, "v5e:2x2", made_plan(config))
    (file,) = tmp_path.iterdir()
    for content in ("{", "{}", "[]"):
        file.write_text(content)
        assert plans.get(config, "v5e:2x2") is None


def test_nothing_is_kept_without_a_directory(config):
    plans = PlanCache(None)
    plans.put(config, "v5e:2x2", made_plan(config))
    assert plans.get(config, "v5e:2x2") is None
