"""Batches of a source: an endless, shuffled feed for training, and one pass for evaluation.

The global order of the examples does not depend on the number of processes. Global batch k has the
positions k * batch_size up to (k + 1) * batch_size of this order. Process p gets the p-th of the
equal blocks of each global batch. The batches of all processes, concatenated in order, are the
global batch, so a run can resume with another number of processes.

The state of a training feed is `{"next_index": k}` after k batches, regardless of what was read
ahead, and JSON can store it. `set_state(state)` continues with exactly the batch that comes next. A
state does not contain the source, the seed and the batch size: restore it only with the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing import resource_tracker
from typing import Any, SupportsIndex

import grain
import numpy as np
from absl import flags

from train.data.batch import NumpyBatch
from train.data.sources.data_source import Source

__all__ = ["TrainFeed", "eval_feed", "training_order"]

_READ_AHEAD = 4
"""Number of batches that each worker, or all threads, read ahead.

Grain's default is 500 elements, and here an element is a batch.
"""


class TrainFeed:
    """An endless iterator over shuffled batches: this process's block of each global batch.

    A batch is::

        {"image": uint8 (b, height, width, channels),
         "label": int32 (b,) or (b, height, width),
         "index": int64 (b,)}

    with b = batch_size // process_count, in the order of `training_order`. The batches do not
    depend on the number of workers and threads.

    Args:
        source: The examples.
        batch_size: Global batch size.
        seed: Seed of the order and of random crops.
        process_index: Index of this process.
        process_count: Number of processes.
        random_crop: Use `source.random_crop`, with a new crop in every epoch. A crop is derived
            from the seed and the number of examples before it.
        workers: Number of worker processes that read; 0 reads in threads of this process.
        threads: Number of threads that read, if there are no workers.

    Raises:
        ValueError: If an argument is invalid, see `training_order`.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        random_crop: bool = False,
        workers: int = 0,
        threads: int = 2,
    ) -> None:
        _check_training(len(source), batch_size, seed, process_index, process_count)
        positions = _shuffled(len(source), seed)
        if random_crop:
            # A separate stream. Grain derives the crop of example i from this seed and i.
            crop_seed = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
            examples = positions.random_map(source.random_crop, seed=crop_seed)
        else:
            examples = positions.map(source.__getitem__)
        self._batches = _blocks(examples, batch_size, process_index, process_count)
        self._workers, self._threads = workers, threads
        self.set_state({"next_index": 0})

    def __iter__(self) -> TrainFeed:
        return self

    def __next__(self) -> NumpyBatch:
        batch: NumpyBatch = next(self._iterator)
        self._next_index += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the number of batches that were returned, regardless of what was read ahead."""
        return {"next_index": self._next_index}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue from a position that `get_state` returned.

        Args:
            state: The position.
        """
        self._next_index = state["next_index"]
        remaining = self._batches[self._next_index :]
        self._iterator = _iterate(remaining, self._workers, self._threads)

    def close(self) -> None:
        """Stop the worker processes."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()


def training_order(
    length: int, *, batch_size: int, seed: int, process_index: int = 0, process_count: int = 1
) -> grain.MapDataset[np.ndarray]:
    """Return the positions of the examples in this process's block of each global batch.

    Epoch e is a permutation that depends on (seed, e). Epochs follow each other without a gap, even
    within a batch, so every example comes exactly once per epoch over all processes.

    Args:
        length: Number of examples.
        batch_size: Global batch size.
        seed: Seed of the order.
        process_index: Index of this process.
        process_count: Number of processes.

    Returns:
        An infinite Grain dataset whose element k is int64 (batch_size // process_count,), for
        global batch k.

    Raises:
        ValueError: If there are no examples, the seed is negative, or the batch cannot be divided
            evenly among the processes.
    """
    _check_training(length, batch_size, seed, process_index, process_count)
    return _blocks(_shuffled(length, seed), batch_size, process_index, process_count)


def eval_feed(
    source: Source,
    *,
    batch_size: int,
    multiple_of: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> grain.DatasetIterator[NumpyBatch]:
    """Iterate once over the source, in order, in batches of one shape for this process.

    A batch is one of `TrainFeed` with `is_example`, float32 (b,), which is 1 for an example and 0
    for padding. The image and the label of padding are 0 and its index is -1. The size b is
    batch_size / process_count, rounded up to a multiple of `multiple_of`. Every example comes
    exactly once over all processes. All processes have the same number of batches, and the last
    batch of one may be only padding.

    Args:
        source: The examples.
        batch_size: Global batch size.
        multiple_of: Divisor of the size of a batch, such as the number of local devices.
        process_index: Index of this process.
        process_count: Number of processes.
        workers: Number of worker processes that read; 0 reads in threads of this process.

    Returns:
        An iterator over the batches of this process.

    Raises:
        ValueError: If the source is empty, or a size is below 1.
    """
    _check(len(source), batch_size, process_index, process_count)
    if multiple_of < 1:
        raise ValueError(f"expected multiple_of of at least 1, got {multiple_of}.")
    block_size = _round_up(-(-batch_size // process_count), multiple_of)
    padded = _Padded(source, _round_up(len(source), block_size * process_count))
    blocks = grain.MapDataset.source(padded).batch(block_size)
    return _iterate(blocks[process_index::process_count], workers)


def _shuffled(length: int, seed: int) -> grain.MapDataset[Any]:
    # Grain seeds epoch e with seed + e. Without hashing, the first epoch of seed 1 would be the
    # second epoch of seed 0.
    shuffle_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return grain.MapDataset.range(length).shuffle(shuffle_seed).repeat()


def _blocks(
    examples: grain.MapDataset[Any], batch_size: int, process_index: int, process_count: int
) -> grain.MapDataset[Any]:
    """Batch examples, and keep the blocks of one process."""
    # The dataset never ends, but Grain computes its length. Without `drop_remainder` it is rounded
    # as a float and can exceed the largest integer.
    blocks = examples.batch(batch_size // process_count, drop_remainder=True)
    return blocks[process_index::process_count]


def _check_training(
    length: int, batch_size: int, seed: int, process_index: int, process_count: int
) -> None:
    """Raise an error for numbers that give no batches."""
    _check(length, batch_size, process_index, process_count)
    if batch_size % process_count:
        raise ValueError(
            f"expected a global batch that can be divided evenly among {process_count} processes, "
            f"got batch_size={batch_size}. Use a multiple of {process_count}, for example "
            f"{_round_up(batch_size, process_count)}."
        )
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}.")


class _Padded:
    """A source padded with empty examples. `is_example` is 1 for the real ones."""

    def __init__(self, source: Source, length: int) -> None:
        self._source = source
        self._length = length
        self._padding = {
            "image": np.zeros(source.image_shape, np.uint8),
            "label": np.zeros(source.label_shape, np.int32),
            "index": np.int64(-1),
            "is_example": np.float32(0),
        }

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: SupportsIndex) -> dict[str, Any]:
        position = range(self._length)[position]
        if position >= len(self._source):
            return self._padding
        return {**self._source[position], "is_example": np.float32(1)}


def _iterate(
    batches: grain.MapDataset[NumpyBatch], workers: int, threads: int = 2
) -> grain.DatasetIterator[NumpyBatch]:
    """Iterate over batches that threads or worker processes read ahead."""
    threads = 1 if workers else threads
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_READ_AHEAD)
    iterable = batches.to_iter_dataset(options)
    if workers:
        # Grain reads absl flags here. They are not parsed outside of `python -m train`.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        # Starting the tracker later would unblock Ctrl-C in the thread of `TimeoutFeed`, and so in
        # the workers that this thread starts.
        resource_tracker.ensure_running()
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_READ_AHEAD)
        )
    return iter(iterable)


def _check(length: int, batch_size: int, process_index: int, process_count: int) -> None:
    if length == 0:
        raise ValueError("expected a source with examples, got an empty one.")
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}.")
    if not 0 <= process_index < process_count:
        raise ValueError(
            "expected process_index in 0 .. process_count - 1, got "
            f"process_index={process_index}, process_count={process_count}."
        )


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
