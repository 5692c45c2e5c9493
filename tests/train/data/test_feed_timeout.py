"""Feeds that hang or break, and those that do not."""

import threading
import time

import pytest

from train.data.feed import TrainFeed
from train.data.feed_timeout import FeedError, TimeoutFeed


class Feed:
    """Counts; hangs or fails at its third batch."""

    def __init__(self, third):
        self.third = third
        self.taken = 0

    def __next__(self):
        self.taken += 1
        if self.taken == 3:
            return self.third()
        return self.taken

    def get_state(self):
        return {"next_index": self.taken}


def failing(error):
    def fail():
        raise error

    return Feed(fail)


def test_positions_are_those_of_the_batches_handed_out(digits_train):
    plain, inner = (TrainFeed(digits_train, batch_size=100, seed=3) for _ in range(2))
    with TimeoutFeed(inner, 60) as watched:
        for _ in range(3):
            next(plain)
            next(watched)
            assert watched.get_state() == plain.get_state()
        time.sleep(0.05)  # it does not run ahead by itself
        assert watched.get_state() == plain.get_state() == {"next_index": 3}
        watched.set_state({"next_index": 1})
        plain.set_state({"next_index": 1})
        assert next(watched)["index"].tolist() == next(plain)["index"].tolist()


def test_a_feed_that_hangs_is_an_error_and_stays_one():
    release = threading.Event()
    with TimeoutFeed(Feed(release.wait), 0.2) as watched:
        assert [next(watched), next(watched)] == [1, 2]
        for _ in range(2):
            with pytest.raises(FeedError, match=r"next batch within 0\.2 s, got none"):
                next(watched)
        release.set()
        with pytest.raises(FeedError):  # the late batch is not taken for the next
            next(watched)


@pytest.mark.parametrize("error", [ValueError("mask"), FileNotFoundError("gone"), StopIteration()])
def test_errors_that_speak_for_themselves_pass(error):
    with TimeoutFeed(failing(error), 60) as watched:
        assert [next(watched), next(watched)] == [1, 2]
        with pytest.raises(type(error)):
            next(watched)


def test_a_worker_that_died_is_told():
    with TimeoutFeed(failing(RuntimeError("exit code -9")), 60) as watched:
        assert [next(watched), next(watched)] == [1, 2]
        with pytest.raises(FeedError, match="RuntimeError: exit code -9"):
            next(watched)


def test_watching_costs_little():
    """Some 30 microseconds; a step of the smallest network takes some milliseconds."""
    with TimeoutFeed(Feed(lambda: 3), 60) as watched:
        next(watched)
        durations = []
        for _ in range(200):
            started = time.perf_counter()
            next(watched)
            durations.append(time.perf_counter() - started)
    assert sorted(durations)[100] < 1e-3
    before = threading.active_count()
    time.sleep(0.05)
    assert threading.active_count() <= before
