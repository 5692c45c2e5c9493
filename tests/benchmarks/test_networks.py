"""PyTorch's twins compute what ours do; the script gives what AFF costs over addition."""

import json

import numpy as np
import pytest
import torch

import aff_jax
from benchmarks.networks import against_add
from benchmarks.torch_networks import make_network
from tests.benchmarks.running import run


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet50_v1d"])
@pytest.mark.slow
def test_twins_give_the_same_logits(name):
    network = make_network(name, "iaff").eval()
    classes = 10 if name.startswith("cifar") else 1000
    model = aff_jax.create_model(name, "iaff", reference="pytorch", num_classes=classes)
    variables = aff_jax.convert.from_torch(network.state_dict(), model)
    variables.pop("unread")
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32)
    with torch.inference_mode():
        theirs = network(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model.apply(variables, images), theirs, rtol=0, atol=1e-5)


def test_costs_over_addition_are_ratios_to_the_same_network():
    def row(network, fusion, speed, peak):
        sides = ("aff_jax", "PyTorch channels-last")
        figures = {f"{s}, images/s": speed for s in sides} | {f"{s}, peak MB": peak for s in sides}
        return {"network": network, "fusion": fusion, **figures}

    rows = [row("a", "add", 100.0, 10.0), row("a", "aff", 80.0, 15.0), row("b", "add", 1.0, 1.0)]
    (found,) = against_add(rows)
    assert found["aff_jax: step / add's"] == pytest.approx(1.25)
    assert found["aff_jax: peak memory / add's"] == pytest.approx(1.5)


@pytest.mark.slow
def test_the_script_runs_to_its_end(tmp_path):
    run("benchmarks.networks", "--fusions", "add", "aff", output=tmp_path)
    tables = json.loads((tmp_path / "networks.json").read_text())["tables"]
    (cost,) = tables["What a fusion costs over addition in a training step"]
    assert cost["fusion"] == "aff"
    assert 1 < cost["aff_jax: peak memory / add's"] < 3
    assert (tmp_path / "networks.png").exists()
