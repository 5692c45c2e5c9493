"""Examples on the devices: the same batches as through the host, in the layout of the steps."""

import itertools

import jax
import numpy as np
import pytest

from train.data.device_feed import DeviceFeed
from train.data.feed import TrainFeed, training_order
from train.steps.parallel import PARALLEL


def resident(source, parallel, batch_size=64, seed=3):
    order = training_order(len(source), batch_size=batch_size, seed=seed)
    return DeviceFeed(source, order, parallel)


@pytest.mark.parametrize("name", sorted(PARALLEL))
def test_batches_are_those_of_the_host_and_lie_as_steps_take_them(digits_train, name):
    parallel = PARALLEL[name](None)
    through_the_host = TrainFeed(digits_train, batch_size=64, seed=3)
    # 23 batches of 64 are more than one epoch of 1,437.
    for ours, theirs in itertools.islice(
        zip(resident(digits_train, parallel), through_the_host, strict=True), 23
    ):
        placed = parallel.place(theirs)
        assert ours.keys() == placed.keys()
        for field in ("image", "label", "index"):
            np.testing.assert_array_equal(ours[field], placed[field])
            assert ours[field].sharding.is_equivalent_to(placed[field].sharding, ours[field].ndim)


def test_goes_on_from_where_it_stood(digits_train):
    parallel = PARALLEL["pmap"](jax.devices()[:1])
    feed = resident(digits_train, parallel)
    for _ in range(5):
        next(feed)
    state = feed.get_state()
    assert state == {"next_index": 5}
    expected = next(feed)
    again = resident(digits_train, parallel)
    again.set_state(state)
    np.testing.assert_array_equal(next(again)["index"], expected["index"])
