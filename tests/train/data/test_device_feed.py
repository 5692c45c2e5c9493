"""The device feed returns the batches of `TrainFeed`, with the sharding that steps expect."""

import itertools

import jax
import numpy as np
import pytest

from train.data.device_feed import DeviceFeed
from train.data.feed import TrainFeed, training_order
from train.steps.parallel import PARALLEL


def device_feed(source, parallel, batch_size=64, seed=3):
    order = training_order(len(source), batch_size=batch_size, seed=seed)
    return DeviceFeed(source, order, parallel)


@pytest.mark.parametrize("name", sorted(PARALLEL))
def test_batches_and_sharding_match_the_host_feed(digits_train, name):
    parallel = PARALLEL[name](None)
    host_feed = TrainFeed(digits_train, batch_size=64, seed=3)
    # 23 batches of 64 are more than one epoch of 1,437.
    feeds = zip(device_feed(digits_train, parallel), host_feed, strict=True)
    for result, host_batch in itertools.islice(feeds, 23):
        expected = parallel.place(host_batch)
        assert result.keys() == expected.keys()
        for field in ("image", "label", "index"):
            array = result[field]
            np.testing.assert_array_equal(array, expected[field])
            assert array.sharding.is_equivalent_to(expected[field].sharding, array.ndim)


def test_resumes_from_its_state(digits_train):
    parallel = PARALLEL["pmap"](jax.devices()[:1])
    feed = device_feed(digits_train, parallel)
    for _ in range(5):
        next(feed)
    state = feed.get_state()
    assert state == {"next_index": 5}
    expected = next(feed)
    resumed = device_feed(digits_train, parallel)
    resumed.set_state(state)
    np.testing.assert_array_equal(next(resumed)["index"], expected["index"])
