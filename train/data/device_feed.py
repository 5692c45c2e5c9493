"""A feed whose examples are on the devices already: small data sets, gathered by index there."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import grain
import jax
import numpy as np
from jaxtyping import Array

from train.data.sources.source import Source

__all__ = ["DeviceFeed", "Devices"]

Batch = Mapping[str, Array]
T = TypeVar("T")


class Devices(Protocol):
    """What a feed needs of the devices that share a batch: `train.steps.parallel.Parallel`."""

    def replicate(self, state: T) -> T:
        """The arrays with a copy on every device."""

    def place(self, batch: Mapping[str, Any]) -> Mapping[str, Array]:
        """A batch on the devices, each with its part."""


class DeviceFeed:
    """The batches of `TrainFeed`, bit for bit, gathered on the devices.

    Every device holds all examples, `source.nbytes` bytes; the host sends the positions that
    `order`, a `training_order`, has for the next batch, and nothing else. The first one waits until
    all examples are decoded.
    """

    def __init__(
        self, source: Source, order: grain.MapDataset[np.ndarray], devices: Devices
    ) -> None:
        self._order = order
        self._devices = devices
        self._next_index = 0
        self._source = source
        self._examples: dict[str, Array] | None = None
        self._gather = jax.jit(self._gathered)

    def __iter__(self) -> DeviceFeed:
        return self

    def __next__(self) -> Batch:
        if self._examples is None:
            self._examples = self._load()
        # int32 has room for every position: what is kept on a device has fewer than 2^31 examples.
        positions = np.asarray(self._order[self._next_index], np.int32)
        self._next_index += 1
        placed = self._devices.place({"index": positions})
        batch: Batch = self._gather(self._examples, placed["index"])
        return batch

    def get_state(self) -> dict[str, int]:
        """How many batches were taken."""
        return {"next_index": self._next_index}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Go on with the batch that came next when `get_state` gave this."""
        self._next_index = state["next_index"]

    def _load(self) -> dict[str, Array]:
        with ThreadPoolExecutor() as pool:
            examples = list(pool.map(self._source.__getitem__, range(len(self._source))))
        names = ("image", "label")
        arrays: dict[str, Any] = {name: np.stack([x[name] for x in examples]) for name in names}
        return self._devices.replicate(arrays)

    @staticmethod
    def _gathered(examples: Mapping[str, Array], index: Array) -> dict[str, Array]:
        return {**{name: array[index] for name, array in examples.items()}, "index": index}
