"""Tests of the order of turns, of what is timed, and of the comparison of outputs."""

import itertools

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import (
    Side,
    check_equal,
    geometric_mean,
    interleave,
    time_sides,
    warm_up,
)


class Clock:
    """A clock that only the calls of sides advance."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)

    def side(self, seconds):
        """Return a side whose calls take these times, and the last one from then on."""
        remaining = list(seconds)

        def call():
            self.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]

        return Side(call)


def test_medians_exclude_the_warm_up_and_the_first_call_of_each_turn(monkeypatch):
    clock = Clock(monkeypatch)
    # A call takes longer than the warm-up of a turn, which therefore has one call. The first round
    # has two calls, the others one call that is not timed and two that count.
    slow_at_first = [9.0, 0.5, *(7.0, 1.0, 1.0), *(7.0, 1.0, 1.0), *(7.0, 5.0, 5.0)]
    found = time_sides({"a": clock.side(slow_at_first)}, rounds=3, turn_seconds=1.0)
    assert found == {"a": 1.0}


def test_a_turn_has_as_many_calls_as_fit(monkeypatch):
    clock, calls = Clock(monkeypatch), []
    side = clock.side([0.1])
    counted = Side(lambda: calls.append(side.call()))
    time_sides({"a": counted}, rounds=1, turn_seconds=0.45, most_calls=10)
    assert len(calls) == 2 + 1 + 4
    calls.clear()
    time_sides({"a": counted}, rounds=1, turn_seconds=100.0, most_calls=3)
    assert len(calls) == 2 + 1 + 3


def test_runs_are_interleaved_and_every_other_round_is_reversed(monkeypatch):
    Clock(monkeypatch)
    calls = []
    sides = {name: Side(lambda n=name: calls.append(n)) for name in "abc"}
    time_sides(sides, rounds=2)
    turns = "".join(name for name, _ in itertools.groupby(calls))
    assert turns == "abc" + "ba" + "bc"  # c has the last turn of a round and the first of the next.


def test_uncounted_rounds_come_first():
    times = iter([9.0, 1.0, 3.0, 2.0])
    assert interleave({"a": lambda: next(times)}, rounds=3) == {"a": 2.0}
    times = iter([4.0, 6.0])
    assert interleave({"a": lambda: next(times)}, rounds=2, uncounted_rounds=0) == {"a": 5.0}


def test_the_warm_up_has_limits_of_time_and_calls(monkeypatch):
    clock = Clock(monkeypatch)
    for seconds, calls in ((0.01, 3), (1.0, 1), (1e-9, 30)):
        made = []
        side = clock.side([seconds])
        warm_up(Side(lambda side=side, made=made: made.append(side.call())), 0.025)
        assert len(made) == calls


def test_the_preparation_of_a_call_is_not_timed(monkeypatch):
    clock, events = Clock(monkeypatch), []

    def prepare():
        clock.now += 5.0
        events.append("prepare")

    def call():
        clock.now += 1.0
        events.append("call")

    side = Side(call, prepare=prepare)
    assert [side.once(), side.once()] == [1.0, 1.0]
    assert events == ["prepare", "call"] * 2


def test_queued_calls_are_waited_for_once(monkeypatch):
    clock, waited = Clock(monkeypatch), []

    def wait(result):
        waited.append(result)
        clock.now += 0.6

    side = Side(lambda: "result", wait)
    assert side.queued(3) == pytest.approx(0.2)
    assert waited == ["result"]


def test_differences_are_relative_to_the_largest_value():
    sides = {"a": {"y": np.array([100.0, 1.0])}, "b": {"y": np.array([100.0, 1.5])}}
    assert check_equal(sides, 1e-2, "AFF") == pytest.approx(5e-3)


@pytest.mark.parametrize("value", [1.5, np.nan])
def test_sides_that_differ_are_refused(value):
    sides = {"a": {"y": np.ones(2)}, "b": {"y": np.ones(2)}, "c": {"y": np.array([1.0, value])}}
    with pytest.raises(
        ValueError, match=r"AFF: .* a to 1e-02 .* y of c differ by .* Nothing was timed"
    ):
        check_equal(sides, 1e-2, "AFF")


def test_inverse_ratios_have_the_inverse_geometric_mean():
    assert geometric_mean([4.0, 0.25]) == pytest.approx(1)
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4)
