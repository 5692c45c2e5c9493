"""Processes that start, and what they tell."""

import pytest

from benchmarks.startup import Start, alternate, seconds_of
from tests.benchmarks.running import run


def test_time_runs_from_before_the_process_until_after_its_code():
    alone, sleeping = seconds_of("pass"), seconds_of("import time; time.sleep(0.5)")
    assert alone > 0
    assert sleeping >= 0.5


def test_a_side_that_fails_ends_the_benchmark():
    with pytest.raises(RuntimeError, match=r"raise ValueError\('no'\)(.|\n)*ValueError: no"):
        seconds_of("raise ValueError('no')")


def test_the_first_turn_does_not_count_and_some_have_fewer():
    turns = {name: iter(range(10)) for name in "abc"}
    sides = {
        "a": Start(lambda: next(turns["a"])),
        "b": Start(lambda: next(turns["b"]), first_uncounted=False),
        "c": Start(lambda: next(turns["c"]), turns=1),
    }
    assert alternate(sides, rounds=3) == {"a": 2, "b": 1, "c": 1}


@pytest.mark.slow
def test_the_script_runs_to_its_end(tmp_path):
    run("benchmarks.startup", output=tmp_path)
    assert "| digits, cache filled |" in (tmp_path / "startup.md").read_text()
    assert (tmp_path / "startup.png").exists()
