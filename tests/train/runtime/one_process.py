"""Train as one of two processes.

python -m tests.train.runtime.one_process PORT INDEX OUT
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import aff_jax
from tests.train.small_network import SmallNetwork, batches, state_and_step
from train.steps.parallel import AXIS, PARALLEL
from train.steps.recalibration import make_recalibration_step, zero_moments
from train.steps.state import TrainState


def train(name: str, index: int = 0, processes: int = 1) -> tuple[TrainState, dict, float]:
    """Take four steps on 4 devices. Return the state, recalibrated statistics and the last loss."""
    norm = functools.partial(aff_jax.BatchNorm, axis_name=AXIS)
    model = SmallNetwork(norm=norm, param_dtype=jnp.float64)
    state, step = state_and_step(model, accumulation=2, ema_decay=0.9)
    parallel = PARALLEL[name](jax.devices()[:4])
    feed = (
        {key: np.split(x, processes)[index] for key, x in batch.items()}
        for batch in batches(6, size=32)
    )
    state, train_step = parallel.replicate(state), parallel.compile(step, donate_state=True)
    for _ in range(4):
        state, metrics = train_step(state, next(feed))
    recalibration_step = parallel.compile(
        make_recalibration_step(model, lambda images, *_: (images / 255, None), AXIS)
    )
    moments = parallel.replicate(zero_moments(state.batch_stats))
    for batch in feed:
        moments = recalibration_step((state, moments), batch)
    return jax.device_get((state, moments.batch_stats, metrics["loss"]))


def main() -> None:
    """Write the results of both strategies."""
    port, index, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    jax.config.update("jax_enable_x64", True)
    assert (jax.device_count(), jax.local_device_count()) == (4, 2)
    for name in PARALLEL:
        state, statistics, loss = train(name, index, processes=2)
        flat = traverse_util.flatten_dict(
            {"params": state.params, "ema": state.ema, "recalibrated": statistics}, sep="/"
        )
        np.savez(f"{out}_{name}.npz", loss=loss, **flat)


if __name__ == "__main__":
    main()
