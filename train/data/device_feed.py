"""A feed for small datasets: all examples are on the devices, where batches are gathered."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import grain
import jax
import numpy as np
from jaxtyping import Array

from train.data.batch import Batch
from train.data.sources.data_source import Source

__all__ = ["DeviceFeed", "Placer"]

T = TypeVar("T")


class Placer(Protocol):
    """Puts arrays on the devices that share a batch, as `train.steps.parallel.Parallel` does."""

    def replicate(self, state: T) -> T:
        """Return the arrays with a copy on every device.

        Args:
            state: A pytree of arrays.

        Returns:
            The pytree, with replicated arrays.
        """

    def place(self, batch: Mapping[str, Any]) -> Batch:
        """Return a batch that is split over the devices.

        Args:
            batch: Arrays of this process by name, with a leading axis of examples.

        Returns:
            The arrays of all processes, split over the devices along this axis.
        """


class DeviceFeed:
    """An iterator over the batches of `TrainFeed`, gathered on the devices. The values are equal.

    Every device has a copy of all examples, which take `source.nbytes` bytes. Only the positions
    of the next batch are sent to it. The first batch waits until all examples are decoded.

    Args:
        source: The examples.
        order: Positions of the examples of each batch, from `training_order`.
        placer: Puts arrays on the devices that share a batch.
    """

    def __init__(self, source: Source, order: grain.MapDataset[np.ndarray], placer: Placer) -> None:
        self._order = order
        self._placer = placer
        self._next_index = 0
        self._source = source
        self._examples: dict[str, Array] | None = None
        self._gather = jax.jit(self._gather_examples)

    def __iter__(self) -> DeviceFeed:
        return self

    def __next__(self) -> Batch:
        if self._examples is None:
            self._examples = self._load()
        # Datasets that fit on a device have fewer than 2^31 examples, so positions fit into int32.
        positions = np.asarray(self._order[self._next_index], np.int32)
        self._next_index += 1
        placed = self._placer.place({"index": positions})
        batch: Batch = self._gather(self._examples, placed["index"])
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the number of batches that were returned."""
        return {"next_index": self._next_index}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue from a position that `get_state` returned.

        Args:
            state: The position.
        """
        self._next_index = state["next_index"]

    def _load(self) -> dict[str, Array]:
        with ThreadPoolExecutor() as pool:
            examples = list(pool.map(self._source.__getitem__, range(len(self._source))))
        names = ("image", "label")
        arrays: dict[str, Any] = {name: np.stack([x[name] for x in examples]) for name in names}
        return self._placer.replicate(arrays)

    @staticmethod
    def _gather_examples(examples: Mapping[str, Array], index: Array) -> dict[str, Array]:
        return {**{name: array[index] for name, array in examples.items()}, "index": index}
