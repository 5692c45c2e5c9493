"""Counts and look-ups on every platform against NumPy."""

import jax
import numpy as np

from train.data.augment import histogram


def some_channels():
    """Return random pixels, one pixel of each value, and pixels of a single value."""
    yield np.random.default_rng(2).integers(0, 256, 108).astype(np.uint8)
    yield np.random.default_rng(0).permutation(np.arange(256, dtype=np.uint8))
    yield np.full(70_001, 254, np.uint8)  # so many that a sum in bfloat16 would be rounded


def test_all_ways_of_counting_agree():
    for channel in some_channels():
        expected = np.array([np.sum(channel < level) for level in range(256)])
        for count_below in (
            histogram.count_below_by_scatter,
            histogram.count_below_by_comparison,
            histogram.count_below_by_product,
        ):
            np.testing.assert_array_equal(jax.jit(count_below)(channel), expected)


def test_a_product_looks_up_every_value_of_a_table():
    table = np.random.default_rng(1).permutation(np.arange(256, dtype=np.uint8))
    for channel in some_channels():
        found = jax.jit(histogram.apply_table_by_product)(table, channel)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, table[channel])
