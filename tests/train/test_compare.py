"""Comparisons in this process: what they leave behind, how they go on, and what fails alone."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from configs import digits
from train import loop
from train.compare import Result, compare, markdown_table, run_config, write_results
from train.run import prepare
from train.window import NonFiniteError


@pytest.fixture
def config(digits_dir):
    """Two variants with one seed, each of 3 steps."""
    config = digits.get_config()
    config.data_dir = str(digits_dir)
    config.fusion = "add"
    config.batch_size = 512
    config.epochs, config.warmup_epochs = 1.0, 0.5
    config.variants = ConfigDict({"fast": {}, "slow": {"learning_rate": 0.01}})
    config.seeds = (1,)
    return config


@pytest.fixture
def console():
    return Console(record=True, width=200, force_terminal=False)


def summary(accuracy, **changes):
    fields = {
        "eval_accuracy": accuracy,
        "eval_loss": 0.5,
        "parameters": 77562,
        "wall_seconds": 15.4,
        "examples_per_second": 8000.0,
    }
    return {**fields, **changes}


def test_every_variant_is_trained_once(config, console, tmp_path, monkeypatch):
    results = compare(config, tmp_path, console)
    assert [(r.variant, r.seed, r.error) for r in results] == [("fast", 1, ""), ("slow", 1, "")]
    assert results[0].summary["eval_loss"] != results[1].summary["eval_loss"]
    assert (tmp_path / "slow" / "seed1" / "curves.png").exists()

    # Started again it reads what is there; with a further seed it trains that one only.
    trained = []

    def train(config, workdir, console):
        trained.append(str(workdir.relative_to(tmp_path)))
        return summary(0.5)

    monkeypatch.setattr(loop, "train", train)
    assert compare(config, tmp_path, console) == results
    assert trained == []
    config.seeds = (1, 2)
    assert len(compare(config, tmp_path, console)) == 4
    assert trained == ["fast/seed2", "slow/seed2"]

    # Results of another config are neither taken for this one's nor trained over.
    config.epochs = 2.0
    config.seeds = (1,)
    again = compare(config, tmp_path, console)
    assert all("epochs: 1.0 in the workdir, 2.0 now" in result.error for result in again)


def test_a_variant_that_fails_does_not_lose_the_others(config, console, tmp_path, monkeypatch):
    def train(config, workdir, console):
        if config.learning_rate == 0.01:
            raise NonFiniteError("expected finite numbers, got a loss of nan at step 2.")
        return summary(0.5)

    monkeypatch.setattr(loop, "train", train)
    config.variants = ConfigDict({"bad": {"learning_rate": 0.01}, "fast": {}})
    bad, fast = compare(config, tmp_path, console)
    assert bad.error.startswith("NonFiniteError: expected finite numbers")
    assert bad.summary is None
    assert fast.summary == summary(0.5)
    assert "failed: expected finite numbers" in console.export_text()


def test_a_variant_changes_what_it_names_and_the_seed():
    config = digits.get_config()
    config.variants = ConfigDict(
        {"local": {"fusion_fields": {"scales": ("local",)}, "model_fields": {"deep_stem": True}}}
    )
    config.seeds = (0,)
    before = config.to_dict()
    run = run_config(config.lock(), "local", 5)
    expected = digits.get_config().to_dict()
    expected["fusion_fields"] = {"scales": ("local",)}
    expected["model_fields"] = {"deep_stem": True}
    expected["seed"] = 5
    assert run.to_dict() == expected
    assert config.to_dict() == before


def test_fusion_fields_reach_the_network(config):
    config.fusion = "aff"
    config.fusion_fields.scales = ("global", "global")
    state = prepare(config).state
    assert sorted(state.params["stage1_block0"]["fuse"]) == ["global", "global2"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("variants", {}, "expected a config with `variants`"),
        ("seeds", (), "expected a config with `seeds`"),
        ("variants", {"a": {"fusio": "aff"}}, "variant 'a': unknown config field 'fusio'. Did you"),
        ("variants", {"a": {}, "a/b": {}}, "the name of a directory as the label of a variant"),
    ],
)
def test_refuses_before_anything_is_trained(config, console, tmp_path, name, value, message):
    config[name] = ConfigDict(value) if isinstance(value, dict) else value
    with pytest.raises(ValueError) as error:
        compare(config, tmp_path / "compare", console)
    assert message in str(error.value)
    assert not (tmp_path / "compare").exists()


RESULTS = [
    Result("aff", 0, summary(0.9889, parameters=83778, examples_per_second=None)),
    Result("aff", 1, summary(0.9945, parameters=83778, examples_per_second=None)),
    Result("add", 0, summary(0.9944)),
    Result("add", 1, summary(0.9916, wall_seconds=17.4)),
    Result("sk", 0, summary(1.0)),
    Result("sk", 1, error="NonFiniteError: a loss of nan"),
    Result("se", 0, error="ValueError: no"),
    Result("se", 1, error="ValueError: no"),
]


def test_the_table_has_every_seed_and_the_best_mean_in_bold():
    """A mean over fewer seeds is none: the seed that `sk` lost could be its worst."""
    assert markdown_table(RESULTS).splitlines() == [
        "| variant | test accuracy, %, seeds 0, 1 | mean | parameters | seconds | images/s |",
        "|---|---|---|---|---|---|",
        "| add | 99.44 99.16 | **99.30** | 77,562 | 16 | 8,000 |",
        "| aff | 98.89 99.45 | 99.17 | 83,778 | 15 | - |",
        "| sk | 100.00 failed | - | 77,562 | 15 | 8,000 |",
        "| se | failed failed | - | - | - | - |",
    ]


def test_a_table_of_failures_only_can_be_made():
    assert "| se | failed | - | - | - | - |" in markdown_table(RESULTS[-1:])


def test_results_are_written_as_numbers_text_and_picture(tmp_path):
    write_results(RESULTS, tmp_path / "new")
    with (tmp_path / "new" / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(x["variant"], x["seed"]) for x in lines] == [(r.variant, str(r.seed)) for r in RESULTS]
    np.testing.assert_allclose([float(x["accuracy"]) for x in lines[:2]], [0.9889, 0.9945])
    assert lines[5]["accuracy"] == ""
    assert lines[5]["error"] == "NonFiniteError: a loss of nan"
    assert (tmp_path / "new" / "compare.md").read_text() == markdown_table(RESULTS)
    assert (tmp_path / "new" / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_command_says_which_configs_it_takes():
    process = subprocess.run(
        [sys.executable, "-m", "train.compare", "--config=configs/digits.py", "--workdir=runs/x"],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    message = "error: expected a config with `variants`, as in configs/compare_digits.py."
    assert process.stderr.strip() == message
