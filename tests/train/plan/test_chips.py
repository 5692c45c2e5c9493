"""The published figures are consistent."""

import pytest

from train.plan.chips import CHIPS, find_chip


@pytest.mark.parametrize("chip", [x for x in CHIPS.values() if x.platform == "tpu"])
def test_the_peak_is_a_whole_number_of_matrix_units_at_the_clock(chip):
    side = 256 if chip.name in ("v6e", "tpu7x") else 128
    units = chip.peak / (2 * side**2 * chip.clock)
    assert units == pytest.approx(round(units), rel=0.02)


def test_a_ring_has_both_directions_of_two_links():
    # 400 GB/s over four links, both directions together.
    assert find_chip("v5e").ring_bandwidth == 200e9


def test_an_unknown_chip_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Did you mean 'v5p'.*v6e"):
        find_chip("v5x")
