"""Time several implementations in one process, with interleaved runs.

A side is one implementation of the computation that a benchmark compares, such as PyTorch eager. In
each round, every side runs once. A run, called a turn, is a pause, calls for 30 ms that are not
timed, and a few calls that are. The time of a side is the median over rounds of the median over the
calls of a turn. The first round is a warm-up and is not counted. Every other round has the reverse
order, so that no side always follows the same one.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Side",
    "check_equal",
    "geometric_mean",
    "interleave",
    "make_parser",
    "time_sides",
    "warm_up",
]

# After a parallel region, the threads of libgomp (PyTorch) and Eigen (XLA) spin for some
# milliseconds in case another region follows. They would take the cores from the next side, so the
# pause lets them sleep. The calls that are not timed then wake the threads of this side and load
# its arrays into the caches: after a pause, the first dozen calls of a millisecond took up to half
# as long again.
PAUSE_SECONDS = 0.05
WARM_UP_SECONDS = 0.03


@dataclass
class Side:
    """One of the implementations that a benchmark compares.

    Attributes:
        call: Starts the computation and returns its result.
        wait: Blocks until a result is ready.
        prepare: Runs before each call and is not timed. If a call donates its argument, this makes
            a new one.
    """

    call: Callable[[], Any]
    wait: Callable[[Any], object] = lambda result: None
    prepare: Callable[[], object] = lambda: None

    def once(self) -> float:
        """Return the seconds from the start of one call until its result is ready."""
        self.prepare()
        started = time.perf_counter()
        self.wait(self.call())
        return time.perf_counter() - started

    def queued(self, calls: int) -> float:
        """Start several calls and wait for the last one.

        Args:
            calls: Number of calls. `prepare` does not run.

        Returns:
            Seconds per call.
        """
        started = time.perf_counter()
        for _ in range(calls):
            result = self.call()
        self.wait(result)
        return (time.perf_counter() - started) / calls


def interleave(
    turns: Mapping[str, Callable[[], float]], rounds: int, uncounted_rounds: int = 1
) -> dict[str, float]:
    """Run several sides in rounds and return the median seconds of each side.

    Args:
        turns: By side, a function that runs one turn and returns its seconds.
        rounds: Number of rounds that count.
        uncounted_rounds: Number of rounds before those, as a warm-up.

    Returns:
        Median seconds by side.
    """
    seconds: dict[str, list[float]] = {side: [] for side in turns}
    for number in range(uncounted_rounds + rounds):
        order = list(turns.items())
        for side, turn in reversed(order) if number % 2 else order:
            taken = turn()
            if number >= uncounted_rounds:
                seconds[side].append(taken)
    return {side: statistics.median(found) for side, found in seconds.items()}


def time_sides(
    sides: Mapping[str, Side],
    rounds: int,
    turn_seconds: float = 0.1,
    most_calls: int = 10,
    queue: bool = False,
) -> dict[str, float]:
    """Return the median seconds per call of each side.

    Args:
        sides: The sides by name.
        rounds: Number of rounds that count.
        turn_seconds: Time of one turn. A turn has as many calls as fit, at least one.
        most_calls: Largest number of calls in a turn.
        queue: Whether to start all calls of a turn and wait once. This is how an accelerator is
            used: a call on it is shorter than the time to start it and to wait for it.

    Returns:
        Median seconds per call by side.
    """
    turns = {
        name: _Turn(side, turn_seconds, most_calls, queue).seconds for name, side in sides.items()
    }
    return interleave(turns, rounds)


@dataclass
class _Turn:
    """Turns of one side. The first, which is not counted, sets the number of calls."""

    side: Side
    turn_seconds: float
    most_calls: int
    queue: bool
    calls: int | None = None

    def seconds(self) -> float:
        """Run one turn and return its median seconds per call."""
        time.sleep(PAUSE_SECONDS)
        warm_up(self.side, WARM_UP_SECONDS)
        if self.calls is None:
            seconds = self.side.once()
            fitting = int(self.turn_seconds / max(seconds, 1e-9))
            self.calls = min(max(fitting, 1), self.most_calls)
            return seconds
        if self.queue:
            return self.side.queued(self.calls)
        return statistics.median(self.side.once() for _ in range(self.calls))


def warm_up(side: Side, seconds: float, most_calls: int = 30) -> None:
    """Call a side until a time has passed.

    Args:
        side: The side.
        seconds: Time after which no further call starts.
        most_calls: Largest number of calls. There is at least one.
    """
    ends = time.perf_counter() + seconds
    for _ in range(most_calls):
        side.once()
        if time.perf_counter() >= ends:
            break


def check_equal(
    outputs: Mapping[str, Mapping[str, np.ndarray]], tolerance: float, what: str
) -> float:
    """Check that all sides computed the same arrays.

    Args:
        outputs: By side, arrays by name. The first side is the reference and has all names.
        tolerance: Largest allowed difference, relative to the largest value of the array.
        what: Description of the computation, for the message.

    Returns:
        The largest relative difference.

    Raises:
        ValueError: If a difference exceeds `tolerance` or is NaN. The message lists all of them.
    """
    (first, expected), *others = outputs.items()
    largest, wrong = 0.0, []
    for side, arrays in others:
        for name, array in arrays.items():
            reference = np.asarray(expected[name], np.float64)
            scale = np.max(np.abs(reference)) or 1.0
            difference = float(np.max(np.abs(np.asarray(array, np.float64) - reference)) / scale)
            largest = max(largest, difference)
            if not difference <= tolerance:
                wrong.append(f"{name} of {side} differ by {difference:.1e}")
    if wrong:
        raise ValueError(
            f"{what}: expected all sides to equal {first} to {tolerance:.0e} of the largest "
            f"value, but {', '.join(wrong)}. Nothing was timed."
        )
    return largest


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean. It suits ratios: inverse ratios have the inverse mean."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def make_parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the flags that all benchmarks have.

    Args:
        description: Docstring of the benchmark, whose first line describes it.
        rounds: Default number of rounds.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads", type=int, default=cores, help="threads of PyTorch; default: number of cores"
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="number of runs of each side")
    parser.add_argument(
        "--quick", action="store_true", help="use toy sizes, to test that the benchmark runs"
    )
    parser.add_argument("--output", default="benchmarks/results", help="directory for the results")
    return parser
