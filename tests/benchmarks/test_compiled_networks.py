"""Training steps compiled for TPU and GPU: their configs, and the table, without a compiler."""

import dataclasses
import json

import pytest

from benchmarks import compiled_networks
from benchmarks.compiled_networks import BATCH, CONFIGS, FUSIONS, step_config
from configs import digits
from tests.train.plan.made import cpu_topology, made_plan


@pytest.mark.parametrize("network", CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_step_differs_from_its_recipe_only_in_what_the_table_states(network, fusion):
    recipe, config = CONFIGS[network](), step_config(network, fusion, devices=4)
    changed = {name for name in recipe if recipe[name] != config[name]}
    assert changed <= {"fusion", "dtype", "sync_batch_norm", "batch_size"}
    assert (config.fusion, config.dtype, config.batch_size) == (fusion, "bfloat16", 4 * BATCH)
    assert not config.sync_batch_norm


def test_the_table_has_the_counts_of_one_chip(monkeypatch, tmp_path):
    class Maker:
        def __init__(self, topology, *_):
            self.topology = topology

        def plan(self, config):
            milliseconds = {"add": 10, "aff": 15}[config.fusion]
            return made_plan(
                digits.get_config(),
                gib=3,
                bytes_per_step=8 * 10**9,
                devices=4,
                operations_per_step=70,
                compiler_seconds=milliseconds / 1e3,
            )

    def describe(name):
        return dataclasses.replace(cpu_topology(chip=name.partition(":")[0]), name=name)

    monkeypatch.setattr(compiled_networks, "PlanMaker", Maker)
    monkeypatch.setattr(compiled_networks, "describe_topology", describe)
    compiled_networks.main(
        [
            "--networks=resnet50_v1d",
            "--fusions",
            "add",
            "aff",
            "--topologies",
            "v5e:2x2",
            "h100",
            f"--output={tmp_path}",
        ]
    )
    record = json.loads((tmp_path / "compiled_networks.json").read_text())
    add, aff = record["tables"]["training step"]
    clock = describe("v5e:2x2").chip.clock
    assert add == {
        "network": "resnet50_v1d",
        "fusion": "add",
        "v5e GB": 2.0,
        "v5e Mcycles": pytest.approx(0.01 * clock / 1e6),
        "v5e GiB": 3.0,
        "h100 GB": 2.0,
        "h100 kernels": 70,
        "h100 GiB": 3.0,
    }
    page = (tmp_path / "compiled_networks.md").read_text()
    assert "--networks resnet50_v1d --fusions add aff --topologies v5e:2x2 h100`" in page
    assert aff["v5e Mcycles"] == pytest.approx(1.5 * add["v5e Mcycles"])
