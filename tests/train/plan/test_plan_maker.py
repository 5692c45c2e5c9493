"""Plans are compiled once, with a line of progress."""

import io

from rich.console import Console

from configs import digits
from tests.train.plan.made import cpu_topology
from train.plan import plan_maker
from train.plan.cache import PlanCache
from train.plan.plan_maker import PlanMaker


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
    assert again.examples(config) == 1437
