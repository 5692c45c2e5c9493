"""The table and the JSON of a plan."""

import dataclasses
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
    assert "1 all-reduce of 0.00 MB in total per device" in text
    assert "Net/block1/fuse/mul (backward)" in text


def test_the_training_time_has_a_unit_of_its_size(plan):
    for hours, text in ((0.0002, "0.7 s"), (0.4167, "25 min"), (6.2, "6.2 h")):
        assert f"steps, {text}" in printed(print_plan, dataclasses.replace(plan, hours=hours))


def test_a_plan_that_does_not_fit_is_printed_too():
    config = digits.get_config()
    plan = made_plan(config, gib=20)
    assert "fits                 no" in printed(print_plan, plan)
    message = does_not_fit(plan, config)
    assert "needs 20.00 GiB, 4.25 GiB too much" in message
    expected = "Try --config.batch_size=50, --config.accumulation=2, --config.model_fields.remat="
    assert expected in message


def test_the_advice_is_possible():
    config = digits.get_config()
    config.batch_size = 2 * 12
    config.accumulation = 2
    config.model_fields.remat = True
    message = does_not_fit(made_plan(config, gib=20), config)
    # 4 divides the 12 examples of a device; the network is rematerialized already.
    assert "Try --config.batch_size=16, --config.accumulation=4, more chips, or" in message
    config.batch_size = 2 * 2
    message = does_not_fit(made_plan(config, gib=1000), config)
    assert "Try more chips, or --search" in message


def test_loops_of_unknown_length_are_named(plan):
    assert "counted once" not in printed(print_plan, plan)
    text = printed(print_plan, dataclasses.replace(plan, loops_counted_once=["gamma/while"]))
    assert "loops of unknown length: gamma/while" in text


def test_gathers_without_an_estimate_are_named(plan):
    assert "not estimated" not in printed(print_plan, plan)
    text = printed(print_plan, dataclasses.replace(plan, without_estimate=["augment/gather"]))
    assert "time of gathers and scatters: augment/gather" in text


def test_numbers_and_nouns_agree(plan):
    text = printed(print_plan, dataclasses.replace(plan, chips=1, devices=1, steps=1))
    assert "1 microbatch " in text
    assert "cpu: 1 chip" in text
    assert "1 chips" not in text
    assert "1 step," in text


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
    assert record["operations"][0].keys() == {"name", "opcode", "module", "bytes", "cycles"}
    assert (record["versions"], record["largest_batch_size"]) == ({"jax": "1"}, 64)
    assert record["remedies"]["--config.accumulation=2"]["fits"]


def test_the_search_is_printed(plan):
    text = printed(print_search, Search(plan, {"--config.accumulation=2": plan}))
    assert "Largest batch that fits: 64, 32 per chip" in text
    assert "The batch of 64 fits with --config.accumulation=2: " in text
    assert "No batch fits" in printed(print_search, Search(None, {}))
