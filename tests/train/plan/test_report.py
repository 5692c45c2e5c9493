"""The table and the JSON of a plan."""

import io
import json

import pytest
from rich.console import Console

from configs import digits
from tests.train.plan.made import made_plan
from tests.train.plan.programs import TPU
from train.plan.report import does_not_fit, print_plan, print_search, write_json
from train.plan.search import Search


@pytest.fixture
def plan():
    return made_plan(digits.get_config(), text=TPU)


def printed(function, *arguments):
    console = Console(file=io.StringIO(), width=200)
    function(*arguments, console)
    return console.file.getvalue()


def test_the_table_has_the_bounds_and_the_operations(plan):
    text = printed(print_plan, plan)
    assert "1.00 GiB of 15.75 GiB" in text
    assert "1 all-reduce of 0.00 MB" in text
    assert "Net/block1/fuse/mul (backward)" in text


def test_a_plan_that_does_not_fit_is_printed_too():
    plan = made_plan(digits.get_config(), gib=20)
    assert "fits                 no" in printed(print_plan, plan)
    message = does_not_fit(plan)
    assert "needs 20.00 GiB, 4.25 GiB too much" in message
    assert "--config.batch_size=50, --config.accumulation=2" in message


def test_the_json_has_the_plan_the_versions_and_the_search(plan, tmp_path):
    path = tmp_path / "new" / "plan.json"
    write_json(plan, path, Search(plan, {"--config.accumulation=2": plan}), {"jax": "1"})
    record = json.loads(path.read_text())
    expected = {
        "fits",
        "chips",
        "memory_bytes_per_chip",
        "flops_per_step",
        "bytes_per_step",
        "estimated_step_seconds",
    }
    assert expected <= record.keys()
    assert (record["versions"], record["largest_batch_size"]) == ({"jax": "1"}, 64)
    assert record["remedies"]["--config.accumulation=2"]["fits"]


def test_the_search_is_printed(plan):
    text = printed(print_search, Search(plan, {"--config.accumulation=2": plan}))
    assert "Largest batch that fits: 64, 32 per chip" in text
    assert "--config.accumulation=2 makes the batch of 64 fit" in text
    assert "No batch fits" in printed(print_search, Search(None, {}))
