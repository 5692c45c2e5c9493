"""What must move and what must be computed, by hand."""

import pytest

from benchmarks.floors import Floors, Work, attention_work

H200 = Floors(bandwidth=4.8e12, arithmetic=989e12)


@pytest.mark.parametrize(
    ("shape", "microseconds", "cached"),
    [
        ((32, 32, 32, 64), 4.37, 2.62),
        ((32, 16, 16, 256), 4.40, 2.65),
        ((8, 56, 56, 256), 13.41, 8.06),
        ((8, 7, 7, 2048), 3.42, 2.75),
    ],
)
def test_the_floors_of_the_page(shape, microseconds, cached):
    for kept, expected in ((False, microseconds), (True, cached)):
        floor = H200.seconds(attention_work("AFF", shape, itemsize=2, cached=kept))
        assert 1e6 * floor == pytest.approx(expected, abs=0.005)


def test_aff_reads_both_twice_and_writes_once():
    # 2 x 3 values of 4 channels, hidden 1: five arrays of 24 and both branches' 4 * 4 weights.
    assert attention_work("AFF", (2, 3, 4), itemsize=4) == Work(4 * (5 * 24 + 16), 4 * 24)


def test_iaff_has_two_readings_with_weights_of_their_own():
    assert attention_work("IAFF", (2, 3, 4), 4, cached=True) == Work(4 * (3 * 24 + 32), 2 * 4 * 24)


def test_a_floor_is_whatever_takes_longer():
    floors = Floors(bandwidth=10, arithmetic=100)
    assert floors.seconds(Work(bytes=20, flops=100)) == 2
    assert floors.seconds(Work(bytes=20, flops=300)) == 3
