"""Tests of `benchmarks.modules`: equal sides, speedups, and a run of the script."""

import math

import pytest

from benchmarks.module_sides import (
    CHUNK_BYTES,
    MODULES,
    chunk_size,
    evaluation,
    make_case,
    training,
)
from benchmarks.modules import SHAPES, mean_speedups
from tests.benchmarks.running import run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_chunks_divide_the_share_of_a_device_and_fit_the_cache(shape, devices):
    size = chunk_size(shape, devices, itemsize=4)
    sample = 4 * math.prod(shape[1:])
    assert shape[0] // devices % size == 0
    assert size == 1 or size * sample <= CHUNK_BYTES


def test_chunks_of_the_four_shapes_on_two_devices():
    assert [chunk_size(shape, 2, 4) for shape in SHAPES] == [4, 4, 1, 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_all_sides_are_equal(name):
    case = make_case(name, (8, 3, 2, 8), "float32")
    for make_sides in (evaluation, training):
        sides, difference = make_sides(case, with_compiled=False)
        assert 0 < difference < 1e-5
        for side in sides.values():
            side.once()
            side.once()  # A side that donates its argument has a new one.


def test_speedups_are_relative_to_the_faster_layout():
    times = {"PyTorch": 3.0, "PyTorch channels-last": 6.0, "torch.compile": 2.0, "frozen": 1.0}
    (row,) = mean_speedups({"AFF 1x1x1x4": times})
    assert row["times PyTorch eager, faster layout"] == pytest.approx(3)
    assert row["times torch.compile"] == pytest.approx(2)


def test_the_faster_frozen_side_is_chosen_for_each_shape():
    shared = {"PyTorch": 4.0, "PyTorch channels-last": 4.0}
    rows = mean_speedups(
        {
            "AFF 1x1x1x4": {**shared, "frozen": 1.0, "frozen, 2 devices": 2.0},
            "AFF 1x1x1x8": {**shared, "frozen": 4.0, "frozen, 2 devices": 2.0},
        }
    )
    found = {row["side"]: row["times PyTorch eager, faster layout"] for row in rows}
    assert found == pytest.approx(
        {"frozen": 2, "frozen, 2 devices": 2, "frozen, the faster of both": 8**0.5}
    )


@pytest.mark.slow
def test_the_script_runs(tmp_path):
    run("benchmarks.modules", "--floors", output=tmp_path)
    page = (tmp_path / "modules.md").read_text()
    assert "frozen, 2 devices, ms" in page
    assert "frozen / floor" in page
    assert (tmp_path / "modules.png").exists()
