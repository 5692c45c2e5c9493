"""Data parallelism: run a step on all devices with `jax.pmap` or `jax.shard_map`."""

import abc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from train.data.batch import Batch

__all__ = ["AXIS", "PARALLEL", "Parallel", "Pmap", "ShardMap", "check_batch_size"]

AXIS = "batch"
"""Name of the mapped axis, over which devices average."""

State = TypeVar("State")
Out = TypeVar("Out")
_Step = Callable[[State, Batch], Out]
"""The step of one device: a function of the state and the device's block of the batch."""


class Parallel(abc.ABC):
    """Runs the same step on every device, each with its block of the global batch.

    The state is not stacked: every device has the same copy. Each process provides one of
    `process_count` equal blocks of the global batch, in the order of the processes. The local
    devices divide it into equal blocks in their order.

    Attributes:
        devices: The devices of all processes; `jax.devices()` by default.
        local_devices: The devices of this process.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        # Sort the devices in the order of the processes' blocks.
        self.devices = sorted(devices or jax.devices(), key=lambda device: device.process_index)
        here = jax.process_index()
        self.local_devices = [x for x in self.devices if x.process_index == here]

    def describe(self) -> str:
        """Return the number and the kind of the devices, such as "8 x NVIDIA H200"."""
        kinds = Counter(device.device_kind for device in self.devices)
        return " and ".join(f"{count} x {kind}" for kind, count in kinds.items())

    def compile(self, step: _Step[State, Out], *, donate_state: bool = False) -> _Step[State, Out]:
        """Compile a step for all devices.

        Args:
            step: The step of one device.
            donate_state: Whether the step may reuse the memory of the state, which then cannot be
                used again.

        Returns:
            A function of the replicated state and this process's block of the global batch.
        """
        mapped = self._map(step, donate_argnums=(0,) if donate_state else ())
        return lambda state, batch: mapped(state, self._step_input(batch))

    def lower_train_step(
        self, step: _Step[State, Out], state: Any, batch: Mapping[str, jax.ShapeDtypeStruct]
    ) -> jax.stages.Lowered:
        """Lower a training step for the devices, which need not exist.

        Args:
            step: The step of one device.
            state: Pytree of the shapes of the state.
            batch: Shapes of the global batch.

        Returns:
            The lowered program, to be compiled.
        """
        # The devices of a topology belong to several processes, but one process compiles for all.
        shapes = {name: self._global_shape(x) for name, x in batch.items()}
        mapped: Any = self._map(step, donate_argnums=(0,))
        lowered: jax.stages.Lowered = mapped.lower(state, shapes)
        return lowered

    def replicate(self, state: State) -> State:
        """Copy the state to every device.

        Args:
            state: Pytree of arrays. All processes must provide the same one.

        Returns:
            The state as JAX arrays with a copy on every device.
        """
        sharding = NamedSharding(self._mesh, PartitionSpec())
        if sharding.is_fully_addressable:
            return jax.device_put(state, sharding)

        def copy(x: Array) -> Array:
            return jax.make_array_from_callback(x.shape, sharding, np.asarray(x).__getitem__)

        return jax.tree.map(copy, state)

    def place(self, batch: Batch) -> Batch:
        """Place a batch on the devices, each with its block. Steps accept it as well.

        Args:
            batch: NumPy arrays with a leading axis `(batch,)`, which the number of local devices
                must divide. JAX arrays are returned as they are. They must be already placed, or be
                computed from placed arrays row by row, as in
                `jax.jit(lambda images, index: images[index])(images, place(batch)["index"])`.

        Returns:
            The batch as JAX arrays, split over the devices along their leading axis.
        """
        local = {name: self._split(x) for name, x in batch.items() if not isinstance(x, jax.Array)}
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        return {**batch, **jax.make_array_from_process_local_data(sharding, local)}

    def _step_input(self, batch: Batch) -> Batch:
        """Convert a batch to the input of a mapped step."""
        if len(self.local_devices) < len(self.devices):
            return self.place(batch)
        # A compiled step transfers NumPy arrays itself, which takes less time than `place`.
        return {
            name: x if isinstance(x, jax.Array) else self._split(x) for name, x in batch.items()
        }

    @property
    @abc.abstractmethod
    def _mesh(self) -> Mesh:
        """Return the devices that share an array."""

    @abc.abstractmethod
    def _split(self, x: np.ndarray | Array) -> np.ndarray | Array:
        """Return `x` with the leading axis that is divided among the devices."""

    def _global_shape(self, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """Return the shape of a global batch with the leading axis that the devices divide."""
        return x

    @abc.abstractmethod
    def _map(self, step: _Step[State, Out], donate_argnums: tuple[int, ...]) -> _Step[State, Out]:
        """Compile `step(state, batch)` for all devices."""


class Pmap(Parallel):
    """Data parallelism with `jax.pmap`.

    Arrays belong to one process, and batches have a leading axis `(devices,)`.
    """

    @property
    def _mesh(self) -> Mesh:
        # The sharding that pmap returns: another one would compile the second step again.
        return Mesh(np.array(self.local_devices), (AXIS,))

    def _split(self, x: np.ndarray | Array) -> np.ndarray | Array:
        return np.reshape(x, (len(self.local_devices), -1, *np.shape(x)[1:]))

    def _global_shape(self, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        count = len(self.devices)
        return jax.ShapeDtypeStruct((count, x.shape[0] // count, *x.shape[1:]), x.dtype)

    def _map(self, step: _Step[State, Out], donate_argnums: tuple[int, ...]) -> _Step[State, Out]:
        return jax.pmap(
            step,
            AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=self.devices,
            donate_argnums=donate_argnums,
        )


class ShardMap(Parallel):
    """Data parallelism with `jax.shard_map` in `jax.jit`.

    Arrays are global: they span the devices of all processes.
    """

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,))

    def _split(self, x: np.ndarray | Array) -> np.ndarray | Array:
        return x

    def _map(self, step: _Step[State, Out], donate_argnums: tuple[int, ...]) -> _Step[State, Out]:
        in_specs = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            step,
            mesh=self._mesh,
            in_specs=in_specs,
            out_specs=PartitionSpec(),
            # With check_vma, the gradient of a replicated parameter is already summed over the
            # devices. The step averages gradients itself, since pmap does not sum them.
            check_vma=False,
        )
        shardings = tuple(NamedSharding(self._mesh, spec) for spec in in_specs)
        return jax.jit(mapped, in_shardings=shardings, donate_argnums=donate_argnums)


PARALLEL: dict[str, type[Parallel]] = {"pmap": Pmap, "shard_map": ShardMap}
"""Strategies of data parallelism by name."""


def check_batch_size(batch_size: int, devices: int, accumulation: int = 1) -> None:
    """Check that the devices and microbatches divide the global batch evenly.

    Args:
        batch_size: Global batch size.
        devices: Number of devices of all processes.
        accumulation: Number of microbatches of each device.

    Raises:
        ValueError: If they do not. The message has the nearest sizes that work.
    """
    divisor = devices * accumulation
    if batch_size < 1 or batch_size % divisor:
        below = batch_size // divisor * divisor
        sizes = [str(size) for size in (below, below + divisor) if size > 0]
        expected = (
            f"the number of devices divides, got {batch_size} for {devices} devices"
            if accumulation == 1
            else f"devices times accumulation divide, got {batch_size} for {devices} times "
            f"{accumulation}"
        )
        raise ValueError(
            f"expected a batch_size that {expected}. Every device gets the same share: use "
            f"{' or '.join(sizes)}."
        )
