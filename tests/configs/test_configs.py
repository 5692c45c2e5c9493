"""Every config field is explained once and is read, and every config starts with its command."""

import ast
import functools
import importlib
import json
import re
from pathlib import Path

import pytest

import aff_jax
from aff_jax.hosts.pyramid import PyramidHost
from configs.base import SEGMENTATION_MODELS
from train.comparison import run_config
from train.data.sources.datasets import find_dataset
from train.reporting.metrics import DISPLAY_NAMES, TASK_METRICS

ROOT = Path(__file__).parent.parent.parent
BASE = ROOT / "configs" / "base.py"
CONFIGS = sorted(p for p in BASE.parent.glob("*.py") if p.stem not in ("__init__", "base"))


def fields():
    return sorted(importlib.import_module("configs.base").get_config().keys())


@pytest.mark.parametrize("field", fields())
def test_a_comment_explains_every_field(field):
    text = BASE.read_text().splitlines()
    (at,) = [n for n, line in enumerate(text) if line.strip().startswith(f"config.{field} = ")]
    assert text[at - 1].strip().startswith("# ")


@functools.cache
def fields_that_train_reads():
    return {
        node.attr
        for path in (ROOT / "train").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        if (ast.unparse(node.value).split(".")[-1]) == "config"
    }


@pytest.mark.parametrize("field", fields())
def test_the_training_application_reads_every_field(field):
    assert field in fields_that_train_reads()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
class TestConfig:
    def test_header_has_command_time_and_metric(self, path):
        head = " ".join(ast.get_docstring(ast.parse(path.read_text())).split())
        command = "train.compare" if path.stem.startswith("compare_") else "train"
        assert f"python -m {command} --config=configs/{path.name} --workdir=" in head
        config = importlib.import_module(f"configs.{path.stem}").get_config()
        assert (
            f"test {DISPLAY_NAMES[TASK_METRICS[find_dataset(config.dataset).task].score_name]}"
            in head
        )
        assert re.search(r"\d %", head)
        assert re.search(r"\d (s|min|h)\b", head)

    def test_planned_duration_is_that_of_the_plan(self, path):
        head = " ".join(ast.get_docstring(ast.parse(path.read_text())).split())
        planned = re.search(r"\(`(\S+)`, docs/plan.md\) estimates ([\d.]+) (min|h)", head)
        if planned:
            tables = json.loads((ROOT / "benchmarks/results/plans.json").read_text())["tables"]
            plans = {(row["config"], row["slice"]): row["hours"] for row in tables["recipes"]}
            hours = float(planned[2]) / {"min": 60, "h": 1}[planned[3]]
            assert hours == pytest.approx(plans[path.stem, planned[1]], rel=0.05)
        else:
            assert "docs/plan.md" not in head

    def test_sets_only_fields_that_base_has(self, path):
        config = importlib.import_module(f"configs.{path.stem}").get_config()
        more = ["baseline", "seeds", "variants"] if path.stem.startswith("compare_") else []
        assert sorted(config.keys()) == sorted([*fields(), *more])

    def test_sets_only_what_differs(self, path):
        """A config differs from the config that it starts with in every field that it sets."""
        module = importlib.import_module(f"configs.{path.stem}")
        tree = ast.parse(path.read_text())
        # If there are several, the first one is the default.
        built_on = re.findall(r"config = (\w+)\.get_config\(\)", path.read_text())[0]
        before = importlib.import_module(f"configs.{built_on}").get_config().to_dict()
        after = module.get_config().to_dict()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("config."):
                name, *inner = ast.unparse(node.targets[0]).split(".")[1:]
                # A model that is an argument has the default of the other config.
                if name in before and not inner and not isinstance(node.value, ast.Name):
                    assert before[name] != after[name], f"{name} is the same in {built_on}"


COMPARISONS = [
    ("compare_cifar10", "cifar_resnet8"),
    ("compare_cifar10", "inception8"),
    ("compare_digits", "cifar_resnet8"),
    ("compare_digits", "inception8"),
    ("compare_folder", "cifar_resnet8"),
    ("compare_folder", "fpn_resnet20"),
    ("compare_folder", "unet_resnet20"),
    ("compare_scenes", "fpn_resnet20"),
    ("compare_scenes", "unet_resnet20"),
    ("compare_scales", "cifar_resnet8"),
    ("compare_scales", "inception8"),
    ("compare_scales", "fpn_resnet20"),
    ("compare_scales", "unet_resnet20"),
]


def test_networks_for_masks_are_those_with_a_pyramid():
    models = {name: type(aff_jax.create_model(name)) for name in aff_jax.list_models()}
    pyramids = {name for name, model in models.items() if issubclass(model, PyramidHost)}
    assert set(SEGMENTATION_MODELS) == pyramids


def test_every_comparison_is_listed_here():
    found = {path.stem for path in CONFIGS if path.stem.startswith("compare_")}
    assert {stem for stem, _ in COMPARISONS} == found


@pytest.mark.parametrize(("stem", "model"), COMPARISONS)
def test_every_variant_of_a_comparison_can_be_made(stem, model):
    config = importlib.import_module(f"configs.{stem}").get_config(model)
    assert config.model == model
    segments = model in SEGMENTATION_MODELS
    assert find_dataset(config.dataset).task == ("segmentation" if segments else "classification")
    runs = [run_config(config, label, seed=3) for label in config.variants]
    assert len({json.dumps(run.to_dict()) for run in runs}) == len(runs)
    for run in runs:
        assert sorted(run.keys()) == fields()
        assert run.seed == 3
        fields_of_fusion = run.fusion_fields.to_dict()
        aff_jax.create_model(run.model, run.fusion, fusion_fields=fields_of_fusion)
