"""Tests of the floors against bytes and operations counted by hand."""

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
def test_the_floors_equal_those_of_the_readme(shape, microseconds, cached):
    for is_cached, expected in ((False, microseconds), (True, cached)):
        floor = H200.seconds(attention_work("AFF", shape, itemsize=2, cached=is_cached))
        assert 1e6 * floor == pytest.approx(expected, abs=0.005)


def test_aff_reads_both_inputs_twice_and_writes_once():
    # 2 x 3 positions, 4 channels, 1 hidden unit: five arrays of 24 values, and 4 * 4 weights.
    assert attention_work("AFF", (2, 3, 4), itemsize=4) == Work(4 * (5 * 24 + 16), 4 * 24)


def test_iaff_has_two_passes_with_different_weights():
    assert attention_work("IAFF", (2, 3, 4), 4, cached=True) == Work(4 * (3 * 24 + 32), 2 * 4 * 24)


def test_a_floor_is_the_larger_of_both_times():
    floors = Floors(bandwidth=10, arithmetic=100)
    assert floors.seconds(Work(bytes=20, flops=100)) == 2
    assert floors.seconds(Work(bytes=20, flops=300)) == 3
