"""Tests of the efficiency on many chips against values computed by hand."""

import pytest

from benchmarks.scaling import CHIPS, Chip, Network, efficiency, torus

NET = Network(parameters=25_000_000, norms=50, forward_flops=1e12)
CHIP = Chip(peak=1e14, link=50e9, axes=2, largest=256)


@pytest.mark.parametrize(
    ("chips", "axes", "sides"),
    [(1, 2, [1, 1]), (8, 2, [4, 2]), (64, 3, [4, 4, 4]), (256, 2, [16, 16]), (512, 3, [8, 8, 8])],
)
def test_a_torus_is_as_cubic_as_possible(chips, axes, sides):
    assert torus(chips, axes) == sides


def test_one_chip_has_efficiency_one():
    assert efficiency(NET, CHIP, 1, step=0.1, sync=False) == 1


def test_gradients_pass_the_ring_in_both_directions():
    # 100 MB, 7 / 8 of them twice, at 100 GB/s in both directions: 1.75 ms.
    assert efficiency(NET, CHIP, 8, step=0.1, sync=False) == pytest.approx(0.1 / 0.10175)


def test_synchronized_norms_add_latency():
    # 50 norms, four all-reduces, six hops of a microsecond: 1.2 ms.
    assert efficiency(NET, CHIP, 8, step=0.1, sync=True) == pytest.approx(0.1 / 0.10295)


def test_links_sum_to_the_documented_bandwidth():
    """The documentation sums both directions of all links of a chip."""
    assert 4 * 2 * CHIPS["v5e"].link == 400e9
    assert 6 * 2 * CHIPS["v5p"].link == 1200e9
