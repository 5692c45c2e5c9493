"""Batches out of a source: a shuffled, endless one for training, one pass for evaluation.

There is one global order of examples, the same for any number of processes; global batch k is
its positions k * batch_size up to (k + 1) * batch_size, and process p has the p-th of the equal
blocks that make up a global batch. The processes' batches, joined in order of process, are the
global batch, so that a run may go on with another number of processes.

A training feed's state is `{"next_index": k}` when k batches have been taken, whatever was read
ahead, and JSON can hold it; `set_state(state)` goes on with exactly the batch that would have come
next. A state does not know the source, the seed and the batch size: restore it only where they are
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsIndex

import grain
import numpy as np
from absl import flags

from train.data.sources.source import Source

Batch = dict[str, np.ndarray]


class TrainFeed:
    """An endless sequence of shuffled global batches: this process's part of each.

    Yields {"image": uint8 (b, height, width, channels), "label": int32 (b,) or (b, height, width),
    "index": int64 (b,)} with b = batch_size // process_count, in the order of `training_order`.
    With `random_crop` every image is a random rectangle of what is stored, drawn anew from the seed
    and how many examples came before.

    `workers` processes, or with 0 `threads` threads of this one, read at most `read_ahead` batches
    ahead each. What comes depends on neither.

    Raises `ValueError` as `training_order`.
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
        read_ahead: int = 4,
    ) -> None:
        _check_training(len(source), batch_size, seed, process_index, process_count)
        positions = _shuffled(len(source), seed)
        if random_crop:
            # A stream of its own: Grain derives the crop of example i from this seed and i.
            crop_seed = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
            examples = positions.random_map(source.random_crop, seed=crop_seed)
        else:
            examples = positions.map(source.__getitem__)
        self._batches = _blocks(examples, batch_size, process_index, process_count)
        self._workers, self._threads, self._read_ahead = workers, threads, read_ahead
        self.set_state({"next_index": 0})

    def __iter__(self) -> TrainFeed:
        return self

    def __next__(self) -> Batch:
        batch: Batch = next(self._iterator)
        self._next_index += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """How many batches were taken, whatever was read ahead."""
        return {"next_index": self._next_index}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Go on with the batch that came next when `get_state` gave this."""
        self._next_index = state["next_index"]
        left = self._batches[self._next_index :]
        self._iterator = _iterate(left, self._threads, self._read_ahead, self._workers)

    def close(self) -> None:
        """End the processes that read."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()


def training_order(
    length: int, *, batch_size: int, seed: int, process_index: int = 0, process_count: int = 1
) -> grain.MapDataset[np.ndarray]:
    """Positions in a source of the examples of this process's part of each global batch.

    Element k is int64 (b,), of batch k; there is no end. Epoch e is a permutation drawn from
    (seed, e); epochs follow each other without a gap, also within a batch. So every example comes
    exactly once per epoch over all processes, whether or not anything divides anything.

    Raises `ValueError` for an empty source, a negative seed, and a batch that cannot be divided
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
    threads: int = 2,
    read_ahead: int = 4,
) -> grain.DatasetIterator[Batch]:
    """Iterate over this process's part of one pass over the source, in batches of one shape.

    In the source's order. Yields what `TrainFeed` does and "mask", float32 (b,): 1 for an
    example, 0 for padding (whose image and label are 0, and index -1), with

        b = batch_size / process_count, rounded up to a multiple of `multiple_of`

    (the number of local devices, say). Every example comes exactly once over all processes, and
    all processes have the same number of batches; a process's last may be padding only.

    Raises `ValueError` for an empty source and for sizes below 1.
    """
    _check(len(source), batch_size, process_index, process_count)
    if multiple_of < 1:
        raise ValueError(f"expected multiple_of of at least 1, got {multiple_of}.")
    block_size = _round_up(-(-batch_size // process_count), multiple_of)
    padded = _Padded(source, _round_up(len(source), block_size * process_count))
    blocks = grain.MapDataset.source(padded).batch(block_size)
    return _iterate(blocks[process_index::process_count], threads, read_ahead, workers)


def _shuffled(length: int, seed: int) -> grain.MapDataset[Any]:
    # Grain seeds epoch e with seed + e. Hashed, seed 1 is not seed 0 one epoch later.
    shuffle_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return grain.MapDataset.range(length).shuffle(shuffle_seed).repeat()


def _blocks(
    examples: grain.MapDataset[Any], batch_size: int, process_index: int, process_count: int
) -> grain.MapDataset[Any]:
    """The batches of one process."""
    # The last block of an infinite order is of no interest, but its length must be an int.
    blocks = examples.batch(batch_size // process_count, drop_remainder=True)
    return blocks[process_index::process_count]


def _check_training(
    length: int, batch_size: int, seed: int, process_index: int, process_count: int
) -> None:
    _check(length, batch_size, process_index, process_count)
    if batch_size % process_count:
        raise ValueError(
            f"expected a global batch that {process_count} processes can share equally, got "
            f"batch_size={batch_size}. Take a multiple of {process_count}, for example "
            f"{_round_up(batch_size, process_count)}."
        )
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}.")


class _Padded:
    """A source made longer by empty examples, and a mask that tells them apart."""

    def __init__(self, source: Source, length: int) -> None:
        self._source = source
        self._length = length
        self._padding = {
            "image": np.zeros(source.image_shape, np.uint8),
            "label": np.zeros(source.label_shape, np.int32),
            "index": np.int64(-1),
            "mask": np.float32(0),
        }

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: SupportsIndex) -> dict[str, Any]:
        position = range(self._length)[position]
        if position >= len(self._source):
            return self._padding
        return {**self._source[position], "mask": np.float32(1)}


def _iterate(
    batches: grain.MapDataset[Batch], threads: int, ahead: int, workers: int = 0
) -> grain.DatasetIterator[Batch]:
    # Grain's own default reads 500 elements ahead, which here are whole batches.
    options = grain.ReadOptions(num_threads=1 if workers else threads, prefetch_buffer_size=ahead)
    iterable = batches.to_iter_dataset(options)
    if workers:
        # Grain reads flags of its own here, which nobody has parsed outside of `python -m train`.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead)
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
