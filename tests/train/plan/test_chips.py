"""The published figures are consistent."""

import pytest

from train.plan.chips import CHIPS


@pytest.mark.parametrize("chip", [x for x in CHIPS.values() if x.platform == "tpu"])
def test_the_peak_is_a_whole_number_of_matrix_units_at_the_clock(chip):
    side = 256 if chip.name in ("v6e", "tpu7x") else 128
    units = chip.peak / (2 * side**2 * chip.clock)
    assert units == pytest.approx(round(units), rel=0.02)


@pytest.mark.parametrize("chip", CHIPS.values())
def test_every_chip_has_its_platform_examples_and_source(chip):
    assert (chip.gpu is not None) == (chip.platform == "gpu")
    assert all(example.startswith(chip.name) for example in chip.example_topologies.split(", "))
    assert chip.source.startswith("https://")


def test_a_ring_sends_over_two_links_in_both_directions():
    # 400 GB/s over four links are 50 GB/s in one direction of one link.
    assert CHIPS["v5e"].ring_bandwidth == 100e9
    # NVLink connects all GPUs with 900 GB/s, half of them to send.
    assert CHIPS["h100"].ring_bandwidth == 450e9
