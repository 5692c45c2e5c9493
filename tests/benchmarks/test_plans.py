"""The table of planned recipes, with plans that need no compiler."""

import json
from pathlib import Path

import pytest

from benchmarks import plans
from configs import digits
from tests.train.plan.made import made_plan
from tests.train.plan.programs import TPU

ROOT = Path(__file__).parent.parent.parent


def test_every_recipe_is_planned():
    configs = {path.stem for path in (ROOT / "configs").glob("*.py")}
    others = {"__init__", "base", "image_folder", "mask_folder", "cifar100_resnet32_coarse"}
    recipes = {name for name in configs - others if not name.startswith("compare_")}
    assert recipes == plans.RECIPES.keys()


def test_the_table_is_written_after_each_recipe(monkeypatch, tmp_path):
    class Maker:
        def __init__(self, *_):
            pass

        def plan(self, config):
            slower = 2 if config.fusion == "aff" else 1
            plan = made_plan(digits.get_config(), text=TPU)
            seconds = slower * (plan.estimated_step_seconds or 0)
            return made_plan(
                digits.get_config(), text=TPU, estimated_step_seconds=seconds, topology="v5e:2x2"
            )

    monkeypatch.setattr(plans, "PlanMaker", Maker)
    plans.main(["--configs", "digits", "digit_scenes", f"--output={tmp_path}"])
    rows = json.loads((tmp_path / "plans.json").read_text())["tables"]["recipes"]
    assert [row["config"] for row in rows] == ["digits", "digit_scenes"]
    assert rows[0]["step over add"] == pytest.approx(2)
    assert rows[0]["bytes over add"] == pytest.approx(1)

    # What is not planned again stays, in the order of the recipes.
    rows[1]["libtpu"] = "earlier"
    (tmp_path / "plans.json").write_text(json.dumps({"tables": {"recipes": rows[1:]}}))
    plans.main(["--configs", "digits", f"--output={tmp_path}"])
    again = json.loads((tmp_path / "plans.json").read_text())["tables"]["recipes"]
    assert again == rows


def test_a_recipe_that_does_not_fit_has_no_times():
    row = plans.plan_row(
        "x", made_plan(digits.get_config(), gib=20), made_plan(digits.get_config())
    )
    assert (row["fits"], row["step ms"], row["step over add"]) == ("no", None, None)
