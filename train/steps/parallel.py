"""How one device's step becomes all devices': the only place that says pmap or shard_map."""

import abc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from train.steps.step import Batch

__all__ = ["AXIS", "PARALLEL", "Parallel", "Pmap", "ShardMap", "check_batch_size"]

AXIS = "batch"
"""Name of the mapped axis, over which devices average."""

State = TypeVar("State")
Out = TypeVar("Out")
Step = Callable[[State, Batch], Out]
"""What one device does with the state and its part of the batch."""


class Parallel(abc.ABC):
    """The same step on every device, each with its part of the global batch.

    States go in and come out unstacked, the same on every device. Each process gives its own part
    of the global batch, the p-th of as many equal blocks; within it, devices have equal blocks in
    their order.

    `devices` are all those of all processes unless given; `local_devices` those of this one.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        # In the order of their processes, whose parts of the batch follow each other so.
        self.devices = sorted(devices or jax.devices(), key=lambda device: device.process_index)
        here = jax.process_index()
        self.local_devices = [x for x in self.devices if x.process_index == here]

    def describe(self) -> str:
        """The devices, as in "8 x NVIDIA H200"."""
        kinds = Counter(device.device_kind for device in self.devices)
        return " and ".join(f"{count} x {kind}" for kind, count in kinds.items())

    def train_step(self, step: Step[State, Out]) -> Step[State, Out]:
        """`step` on every device; the state that goes in is donated and can't be used again."""
        mapped = self._map(step, donate_argnums=(0,))
        return lambda state, batch: mapped(state, self._argument(batch))

    def eval_step(self, step: Step[State, Out]) -> Step[State, Out]:
        """`step` on every device; the state stays."""
        mapped = self._map(step, donate_argnums=())
        return lambda state, batch: mapped(state, self._argument(batch))

    def replicate(self, state: State) -> State:
        """The state with a copy on every device; all processes have to give the same."""
        sharding = NamedSharding(self._mesh, PartitionSpec())
        if sharding.is_fully_addressable:
            return jax.device_put(state, sharding)

        def everywhere(x: Array) -> Array:
            return jax.make_array_from_callback(x.shape, sharding, np.asarray(x).__getitem__)

        return jax.tree.map(everywhere, state)

    def place(self, batch: Batch) -> Batch:
        """A batch on the devices, each with its part; the steps take batches placed or not.

        Arrays of the host have a leading axis (batch,) that the number of local devices divides.
        JAX's arrays pass as they are: they have been placed, or were made of what was, row by row,
        as in `jax.jit(lambda images, index: images[index])(images, place(batch)["index"])`.
        """
        ours = {name: self._split(x) for name, x in batch.items() if not isinstance(x, jax.Array)}
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        return {**batch, **jax.make_array_from_process_local_data(sharding, ours)}

    def _argument(self, batch: Batch) -> Batch:
        """What a mapped step takes."""
        if len(self.local_devices) < len(self.devices):
            return self.place(batch)
        # A compiled step places arrays of the host itself, in less time.
        return {
            name: x if isinstance(x, jax.Array) else self._split(x) for name, x in batch.items()
        }

    @property
    @abc.abstractmethod
    def _mesh(self) -> Mesh:
        """The devices that share an array."""

    @abc.abstractmethod
    def _split(self, x: np.ndarray | Array) -> np.ndarray | Array:
        """`x` with the leading axis that is divided among the devices."""

    @abc.abstractmethod
    def _map(self, step: Step[State, Out], donate_argnums: tuple[int, ...]) -> Step[State, Out]:
        """`step(state, batch)` on every device."""


class Pmap(Parallel):
    """By `jax.pmap`: arrays belong to one process, batches have a leading axis (devices,)."""

    @property
    def _mesh(self) -> Mesh:
        # pmap's own: with any other sharding, the second step would be compiled again.
        return Mesh(np.array(self.local_devices), (AXIS,))

    def _split(self, x: np.ndarray | Array) -> np.ndarray | Array:
        return np.reshape(x, (len(self.local_devices), -1, *np.shape(x)[1:]))

    def _map(self, step: Step[State, Out], donate_argnums: tuple[int, ...]) -> Step[State, Out]:
        return jax.pmap(
            step,
            AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=self.devices,
            donate_argnums=donate_argnums,
        )


class ShardMap(Parallel):
    """By `jax.shard_map` in `jax.jit`: arrays are global, over the devices of all processes."""

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,))

    def _split(self, x: np.ndarray | Array) -> np.ndarray | Array:
        return x

    def _map(self, step: Step[State, Out], donate_argnums: tuple[int, ...]) -> Step[State, Out]:
        in_specs = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            step,
            mesh=self._mesh,
            in_specs=in_specs,
            out_specs=PartitionSpec(),
            # With it, gradients would be summed over the devices by themselves, and not under pmap.
            check_vma=False,
        )
        shardings = tuple(NamedSharding(self._mesh, spec) for spec in in_specs)
        return jax.jit(mapped, in_shardings=shardings, donate_argnums=donate_argnums)


PARALLEL: dict[str, type[Parallel]] = {"pmap": Pmap, "shard_map": ShardMap}
"""Ways to run a step on all devices, by name."""


def check_batch_size(batch_size: int, devices: int, accumulation: int = 1) -> None:
    """Refuse a global batch that devices and their microbatches can't share evenly.

    Raises:
        ValueError: names the batch size, the number of parts and the nearest sizes that do.
    """
    parts = devices * accumulation
    if batch_size < 1 or batch_size % parts:
        below = batch_size // parts * parts
        sizes = [str(size) for size in (below, below + parts) if size > 0]
        what = (
            f"the number of devices divides, got {batch_size} for {devices} devices"
            if accumulation == 1
            else f"devices times accumulation divide, got {batch_size} for {devices} times "
            f"{accumulation}"
        )
        raise ValueError(
            f"expected a batch_size that {what}. Every device gets the same share: use "
            f"{' or '.join(sizes)}."
        )
