"""How sides are timed: in turns within one process, after they were seen to agree.

A turn of a side is a pause, calls for 30 ms that are not timed, and then a few that are. What a
side takes is the median over rounds of the median over the calls of a turn; one round before those
is a warm-up. Every other round runs the sides backwards, so that none has always the same one
before it.
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

__all__ = ["Side", "alternate", "check_equal", "geometric_mean", "measuring_arguments", "warm_up"]

# libgomp's threads spin for some milliseconds after a parallel region of PyTorch, in case another
# one comes, and Eigen's do so after one of XLA's. Whoever is called in that time shares the cores
# with threads that do nothing. The pause lets them go to sleep. Then calls that are not timed wake
# this side's own threads and the cores, and bring its arrays into the caches: after a pause, the
# first dozen calls of a millisecond were seen to take up to half as long again.
PAUSE_SECONDS = 0.05
WARM_UP_SECONDS = 0.03


@dataclass
class Side:
    """One of those that are compared.

    `call` starts a call and returns its result, and `wait` returns when that is there. `prepare` is
    called before each and not timed: where a call consumes its argument, it makes a new one.
    """

    call: Callable[[], Any]
    wait: Callable[[Any], object] = lambda result: None
    prepare: Callable[[], object] = lambda: None

    def once(self) -> float:
        """Seconds of one call, to its end."""
        self.prepare()
        started = time.perf_counter()
        self.wait(self.call())
        return time.perf_counter() - started

    def queued(self, calls: int) -> float:
        """Seconds a call where the next one is started before this one has ended.

        Only for sides that have nothing to prepare.
        """
        started = time.perf_counter()
        for _ in range(calls):
            result = self.call()
        self.wait(result)
        return (time.perf_counter() - started) / calls


def alternate(
    sides: Mapping[str, Side],
    rounds: int,
    turn_seconds: float = 0.1,
    most_calls: int = 10,
    queue: bool = False,
) -> dict[str, float]:
    """Median seconds of a call of each side.

    A turn has as many calls as `turn_seconds` has room for, from 1 to `most_calls`. With `queue`
    they are started one after the other and waited for together, which is how an accelerator is
    used: its work is shorter than the host takes to start it and to hear that it has ended.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    calls: dict[str, int] = {}
    for number in range(rounds + 1):
        turns = list(sides.items())
        for name, side in turns if number % 2 == 0 else reversed(turns):
            time.sleep(PAUSE_SECONDS)
            warm_up(side, WARM_UP_SECONDS)
            if name not in calls:
                fitting = int(turn_seconds / max(side.once(), 1e-9))
                calls[name] = min(max(fitting, 1), most_calls)
            elif queue:
                seconds[name].append(side.queued(calls[name]))
            else:
                taken = [side.once() for _ in range(calls[name])]
                seconds[name].append(statistics.median(taken))
    return {name: statistics.median(found) for name, found in seconds.items()}


def warm_up(side: Side, seconds: float, most_calls: int = 30) -> None:
    """Call it, once at least, until so much time has gone."""
    ends = time.perf_counter() + seconds
    for _ in range(most_calls):
        side.once()
        if time.perf_counter() >= ends:
            break


def check_equal(
    outputs: Mapping[str, Mapping[str, np.ndarray]], tolerance: float, what: str
) -> float:
    """The largest difference from the first side, as a share of the largest value of its array.

    Each side has arrays by name, the first side has all of them.

    Raises:
        ValueError: a difference is larger than `tolerance`, or not a number; lists all of them.
    """
    (first, expected), *others = outputs.items()
    worst, wrong = 0.0, []
    for side, arrays in others:
        for name, array in arrays.items():
            truth = np.asarray(expected[name], np.float64)
            scale = np.max(np.abs(truth)) or 1.0
            difference = float(np.max(np.abs(np.asarray(array, np.float64) - truth)) / scale)
            worst = max(worst, difference)
            if not difference <= tolerance:
                wrong.append(f"{name} of {side} by {difference:.1e}")
    if wrong:
        raise ValueError(
            f"{what}: expected all sides to agree with {first} to {tolerance:.0e} of the largest "
            f"value, but {', '.join(wrong)}. Nothing was timed."
        )
    return worst


def geometric_mean(values: Iterable[float]) -> float:
    """The mean for ratios: that of the inverses is its inverse."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def measuring_arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the flags that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="of PyTorch; default: cores")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side")
    parser.add_argument("--quick", action="store_true", help="toy sizes: only whether it runs")
    parser.add_argument("--output", default="benchmarks/results", help="where results are written")
    return parser
