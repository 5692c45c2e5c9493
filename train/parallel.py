"""How one device's step becomes all devices': the only place that says pmap."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train.state import TrainState
from train.step import EvalStep, TrainStep

__all__ = ["AXIS", "check_batch_size", "parallel_eval_step", "parallel_train_step", "replicate"]

AXIS = "batch"
"""Name of the mapped axis, over which devices average."""


def parallel_train_step(step: TrainStep) -> TrainStep:
    """`step` on every local device, each with its part of the batch.

    The state goes in and comes out unstacked, the same on every device, and its buffers are
    donated: the state that went in can't be used again. Batches are host arrays with a leading
    axis that the number of local devices divides.
    """
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0)
    return lambda state, batch: mapped(state, _split(batch))


def parallel_eval_step(step: EvalStep) -> EvalStep:
    """`step` on every local device, each with its part of the batch."""
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None)
    return lambda state, batch: mapped(state, _split(batch))


def replicate(state: TrainState) -> TrainState:
    """The state with a copy on every local device."""
    # pmap's own mesh: with any other sharding, the second step would be compiled again.
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def check_batch_size(batch_size: int) -> None:
    """Refuse a global batch that the devices can't share evenly.

    Raises:
        ValueError: names the batch size, the number of devices and the nearest sizes that do.
    """
    devices = jax.device_count()
    if batch_size < 1 or batch_size % devices:
        below = batch_size // devices * devices
        sizes = [str(size) for size in (below, below + devices) if size > 0]
        raise ValueError(
            f"expected a batch_size that the number of devices divides, got {batch_size} for "
            f"{devices} devices. Every device gets the same share: use {' or '.join(sizes)}."
        )


def _split(batch: Any) -> Any:
    """Leading axis (batch,) to (devices, batch / devices)."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: np.reshape(x, (devices, -1, *np.shape(x)[1:])), dict(batch))
