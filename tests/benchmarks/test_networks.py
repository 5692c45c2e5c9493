"""Tests of `benchmarks.networks`: equal training steps, cost over addition, a run of the script."""

import json

import numpy as np
import pytest

import aff_jax
from benchmarks.networks import COST_TABLE, cost_over_addition
from benchmarks.step_check import TOLERANCE, check_step
from benchmarks.torch_networks import make_network
from tests.benchmarks.running import run


def step_difference(name, fusion, **fields):
    """Check a step of PyTorch's network against the linen network with those fields."""
    cifar = name.startswith("cifar")
    model = aff_jax.create_model(
        name, fusion, reference="pytorch", num_classes=10 if cifar else 1000, **fields
    )
    rng = np.random.default_rng(0)
    pixels = 16 if cifar else 32
    images, labels = rng.standard_normal((4, pixels, pixels, 3)), rng.integers(0, 10, 4)
    return check_step(make_network(name, fusion), model, images, labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fusion"),
    [("cifar_resnet8", "add"), ("cifar_resnet8", "iaff"), ("resnet50_v1d", "aff")],
)
def test_both_frameworks_take_the_same_step(name, fusion):
    assert step_difference(name, fusion) <= TOLERANCE


@pytest.mark.slow
def test_a_step_that_differs_is_refused():
    """With biased running variances, only the statistics differ."""

    def norm(**fields):
        return aff_jax.BatchNorm(**fields | {"unbiased_variance": False})

    with pytest.raises(ValueError, match="but statistics of aff_jax differ by") as raised:
        step_difference("cifar_resnet8", "aff", norm=norm)
    assert "gradients" not in str(raised.value)


def test_costs_are_relative_to_addition_in_the_same_network():
    def row(network, fusion, speed, peak):
        sides = ("aff_jax", "PyTorch channels-last")
        figures = {f"{s}, images/s": speed for s in sides} | {f"{s}, peak MB": peak for s in sides}
        return {"network": network, "fusion": fusion, **figures}

    rows = [row("a", "add", 100.0, 10.0), row("a", "aff", 80.0, 15.0), row("b", "add", 1.0, 1.0)]
    (found,) = cost_over_addition(rows)
    assert found["aff_jax: step / add's"] == pytest.approx(1.25)
    assert found["aff_jax: peak memory / add's"] == pytest.approx(1.5)


@pytest.mark.slow
def test_the_script_runs(tmp_path):
    run("benchmarks.networks", "--fusions", "add", "aff", output=tmp_path)
    tables = json.loads((tmp_path / "networks.json").read_text())["tables"]
    (cost,) = tables[COST_TABLE]
    assert cost["fusion"] == "aff"
    assert 1 < cost["aff_jax: peak memory / add's"] < 3
    assert (tmp_path / "networks.png").exists()
