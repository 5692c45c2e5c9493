"""Comparisons in this process: their results, resuming, and failures."""

import pytest
from ml_collections import ConfigDict
from rich.console import Console

from configs import digits
from train import comparison
from train.comparison import (
    compare,
    comparison_metric,
    describe_variants,
    finished_results,
    run_config,
)
from train.reporting.step_metrics import NonFiniteError
from train.setup import make_run


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


@pytest.mark.slow
def test_every_variant_is_trained_once(config, console, tmp_path, monkeypatch, small_network):
    assert finished_results(config, tmp_path) == []
    results = list(compare(config, tmp_path, console))
    assert [(r.label, r.seed, r.error) for r in results] == [("fast", 1, ""), ("slow", 1, "")]
    assert results[0].summary["eval_loss"] != results[1].summary["eval_loss"]
    assert (tmp_path / "slow" / "seed1" / "curves.png").exists()

    # A second start reads these results; with another seed it trains that one only.
    trained = []

    def train(config, workdir, console):
        trained.append(str(workdir.relative_to(tmp_path)))
        return summary(0.5)

    monkeypatch.setattr(comparison, "train", train)
    assert list(compare(config, tmp_path, console)) == finished_results(config, tmp_path) == results
    assert trained == []
    config.seeds = (1, 2)
    assert [r.label for r in compare(config, tmp_path, console, ["slow"])] == ["slow", "slow"]
    assert trained == ["slow/seed2"]

    # Results of another config are neither used nor replaced.
    config.epochs = 2.0
    with pytest.raises(ValueError, match=r"epochs: 1.0 in the workdir, 2.0 now"):
        finished_results(config, tmp_path)


def test_a_failed_variant_does_not_end_the_others(config, console, tmp_path, monkeypatch):
    def train(config, workdir, console):
        if config.learning_rate == 0.01:
            raise NonFiniteError("expected finite numbers, got a loss of nan at step 2.")
        return summary(0.5)

    monkeypatch.setattr(comparison, "train", train)
    config.variants = ConfigDict({"bad": {"learning_rate": 0.01}, "fast": {}})
    bad, fast = list(compare(config, tmp_path, console))
    assert bad.error.startswith("NonFiniteError: expected finite numbers")
    assert bad.summary is None
    assert fast.summary == summary(0.5)
    assert "failed: expected finite numbers" in console.export_text()


def test_a_variant_changes_its_overrides_and_the_seed():
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
    state = make_run(config).state
    assert sorted(state.params["stage1_block0"]["fuse"]) == ["global", "global2"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("variants", {}, "expected a config with `variants`"),
        ("seeds", (), "expected a config with `seeds`"),
        ("baseline", "ad", "baseline: unknown variant 'ad'"),
        ("variants", {"a": {"fusio": "aff"}}, "variant 'a': unknown config field 'fusio'. Did you"),
        ("variants", {"a": {}, "a/b": {}}, "the name of a directory as the label of a variant"),
        ("variants", {"a": {"seed": 7}}, "variant 'a': expected no field `seed`"),
        ("variants", {"a": {"epochs": -1.0}}, "epochs: expected a number above 0, got -1.0"),
        ("variants", {"a": {"model": "fpn_resnet20"}}, "expected a network whose output"),
    ],
)
def test_refuses_an_impossible_comparison_before_training(config, name, value, message):
    config[name] = ConfigDict(value) if isinstance(value, dict) else value
    with pytest.raises(ValueError) as error:
        describe_variants(config)
    assert message in str(error.value)


def test_the_cost_of_a_variant_is_that_of_its_network(config):
    config.variants = ConfigDict({"add": {}, "aff": {"fusion": "aff", "batch_size": 8}})
    add, aff = describe_variants(config)
    assert (add.label, add.model, add.fusion, add.batch_size) == (
        "add",
        "cifar_resnet8",
        "add",
        512,
    )
    assert (add.parameters, aff.parameters, aff.batch_size) == (77_562, 83_778, 8)
    # Two operations per multiply-add of the 3x3 convolutions on maps of 8x8, 4x4 and 2x2 pixels,
    # and of the 1x1 ones of the skips. XLA does not count the padding, but counts batch norm.
    convolutions = 2 * (64 * (9 * 16 + 18 * 16 * 16) + 16 * (9 * 16 * 32 + 16 * 32 + 9 * 32 * 32))
    convolutions += 2 * 4 * (9 * 32 * 64 + 32 * 64 + 9 * 64 * 64)
    assert 0.6 * convolutions < add.flops < 1.2 * convolutions
    assert aff.flops > 1.02 * add.flops


def test_compares_the_score_of_the_task(config):
    assert comparison_metric(config) == "accuracy"
    scenes = ConfigDict({"dataset": "digit_scenes"})
    config.variants = ConfigDict({"scenes": scenes})
    assert comparison_metric(config) == "mean_iou"
    config.variants = ConfigDict({"digits": {}, "scenes": scenes})
    with pytest.raises(ValueError, match="expected variants with the same metric"):
        comparison_metric(config)
