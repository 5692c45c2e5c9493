"""Tests of the efficiency on many chips against values computed by hand."""

import pytest

from benchmarks import scaling
from benchmarks.scaling import SLICES, Network, efficiency, plan_step, step_seconds
from configs import digits
from tests.train.plan.made import made_plan
from tests.train.plan.programs import TPU
from train.plan.chips import CHIPS

NET = Network(parameters=25_000_000, norms=50)
CHIP = CHIPS["v5e"]


def test_one_chip_has_efficiency_one():
    assert efficiency(NET, CHIP, 1, step=0.1, sync=False) == 1


def test_gradients_pass_the_ring_in_both_directions():
    # 100 MB, 7 / 8 of them twice, at 100 GB/s, which is two links: 1.75 ms.
    assert efficiency(NET, CHIP, 8, step=0.1, sync=False) == pytest.approx(0.1 / 0.10175)


def test_synchronized_norms_add_latency():
    # 50 norms, four all-reduces, six hops of a microsecond: 1.2 ms.
    assert efficiency(NET, CHIP, 8, step=0.1, sync=True) == pytest.approx(0.1 / 0.10295)


def test_links_sum_to_the_documented_bandwidth():
    """The documentation sums what all links of a chip send and receive."""
    assert 2 * 2 * CHIPS["v5e"].ring_bandwidth == 400e9
    assert 2 * 3 * CHIPS["v5p"].ring_bandwidth == pytest.approx(1200e9)


def test_the_step_is_that_of_the_plan_without_communication():
    plan = made_plan(digits.get_config(), text=TPU)
    assert step_seconds(plan) == pytest.approx(max(plan.compute_seconds, plan.compiler_seconds))
    with pytest.raises(ValueError, match="expected a batch that fits"):
        step_seconds(made_plan(digits.get_config(), gib=20))


def test_the_batch_is_that_of_a_chip(monkeypatch):
    planned = []

    class Maker:
        def __init__(self, topology, *_):
            self.topology = topology

        def plan(self, config):
            planned.append((self.topology, config.batch_size, config.fusion, config.image_size))

    monkeypatch.setattr(scaling, "PlanMaker", Maker)
    for chip in SLICES:
        plan_step("resnet50_v1d", "iaff", 32, 128, chip, None)
    assert planned == [(SLICES[chip], 128, "iaff", 128) for chip in SLICES]
