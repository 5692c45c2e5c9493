"""Batches out of a source: a shuffled, endless one for training, one pass for evaluation.

There is one global order of examples, the same for any number of processes; global batch k is
its positions k * batch_size up to (k + 1) * batch_size, and process p has the p-th of the equal
blocks that make up a global batch. The processes' batches, joined in order of process, are the
global batch, so that a run may go on with another number of processes.

Both feeds are Grain iterators. `get_state()` is `{"next_index": k}` when k batches have been taken,
whatever was read ahead, and JSON can hold it; `set_state(state)` goes on with exactly the batch
that would have come next. A state does not know the source, the seed and the batch size: restore
it only where they are the same.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import grain
import numpy as np

from train.data.source import Source

Batch = dict[str, np.ndarray]


def train_feed(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    read_threads: int = 2,
    read_ahead: int = 4,
) -> grain.DatasetIterator[Batch]:
    """Iterate over this process's part of an endless sequence of shuffled global batches.

    Yields {"image": uint8 (b, height, width, channels), "label": int32 (b,) or (b, height, width),
    "index": int64 (b,)} with b = batch_size // process_count. Epoch e is a permutation of the
    source drawn from (seed, e); epochs follow each other without a gap, also within a batch. So
    every example comes exactly once per epoch over all processes, whether or not anything divides
    anything.

    `read_threads` threads read at most `read_ahead` batches ahead. The order depends on neither.

    Raises `ValueError` for an empty source, a negative seed, and a batch that cannot be divided
    evenly among the processes.
    """
    _check(source, batch_size, process_index, process_count)
    if batch_size % process_count:
        raise ValueError(
            f"expected a global batch that {process_count} processes can share equally, got "
            f"batch_size={batch_size}. Take a multiple of {process_count}, for example "
            f"{_round_up(batch_size, process_count)}."
        )
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}.")
    # Grain seeds epoch e with seed + e. Hashed, seed 1 is not seed 0 one epoch later.
    shuffle_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    blocks = (
        grain.MapDataset.source(source)
        .shuffle(shuffle_seed)
        .repeat()
        # The last block of an infinite order is of no interest, but its length must be an int.
        .batch(batch_size // process_count, drop_remainder=True)
    )
    return _iterate(blocks[process_index::process_count], read_threads, read_ahead)


def eval_feed(
    source: Source,
    *,
    batch_size: int,
    multiple_of: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    read_threads: int = 2,
    read_ahead: int = 4,
) -> grain.DatasetIterator[Batch]:
    """Iterate over this process's part of one pass over the source, in batches of one shape.

    In the source's order. Yields what `train_feed` does and "mask", float32 (b,): 1 for an
    example, 0 for padding (whose image and label are 0, and index -1), with

        b = batch_size / process_count, rounded up to a multiple of `multiple_of`

    (the number of local devices, say). Every example comes exactly once over all processes, and
    all processes have the same number of batches; a process's last may be padding only.

    Raises `ValueError` for an empty source and for sizes below 1.
    """
    _check(source, batch_size, process_index, process_count)
    if multiple_of < 1:
        raise ValueError(f"expected multiple_of of at least 1, got {multiple_of}.")
    block_size = _round_up(-(-batch_size // process_count), multiple_of)
    padded = _Padded(source, _round_up(len(source), block_size * process_count))
    blocks = grain.MapDataset.source(padded).batch(block_size)
    return _iterate(blocks[process_index::process_count], read_threads, read_ahead)


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
    batches: grain.MapDataset[Batch], threads: int, ahead: int
) -> grain.DatasetIterator[Batch]:
    # Grain's own default reads 500 elements ahead, which here are whole batches.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(batches.to_iter_dataset(options))


def _check(source: Source, batch_size: int, process_index: int, process_count: int) -> None:
    if len(source) == 0:
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
