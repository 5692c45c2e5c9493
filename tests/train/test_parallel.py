"""Steps on all devices: one compilation, donated buffers, and batches that can be shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train import parallel
from train.state import TrainState


def small_state():
    return TrainState(
        step=jnp.zeros((), jnp.int32), params={"w": jnp.ones(3)}, batch_stats={}, opt_state=()
    )


def step(state, batch):
    total = lax.psum(jnp.sum(batch["x"]), parallel.AXIS)
    params = {"w": state.params["w"] + total}
    return state.replace(step=state.step + 1, params=params), {"loss": total}


def test_every_device_has_its_part_and_the_state_stays_unstacked():
    state = parallel.replicate(small_state())
    x = np.arange(16, dtype=np.float32)
    new_state, metrics = parallel.parallel_train_step(step)(state, {"x": x})
    assert metrics["loss"] == x.sum()
    assert new_state.params["w"].shape == (3,)
    assert len(new_state.params["w"].devices()) == jax.local_device_count() == 8
    assert metrics["loss"].shape == ()


def test_the_second_step_is_not_compiled_again_and_buffers_are_donated():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    train_step = parallel.parallel_train_step(step)
    state = parallel.replicate(small_state())
    batch = {"x": np.ones(8, np.float32)}
    first, _ = train_step(state, batch)
    assert compiled, "no compilation was noticed: has JAX renamed the event?"
    compiled.clear()
    train_step(first, batch)
    assert compiled == []
    assert first.params["w"].is_deleted()


def test_evaluation_keeps_the_state():
    state = parallel.replicate(small_state())
    eval_step = parallel.parallel_eval_step(lambda state, batch: step(state, batch)[1])
    assert eval_step(state, {"x": np.ones(8, np.float32)})["loss"] == 8
    assert not state.params["w"].is_deleted()


@pytest.mark.parametrize(("size", "offered"), [(12, "8 or 16"), (3, "8"), (0, "8")])
def test_refuses_a_batch_that_the_devices_cannot_share(size, offered):
    message = f"divides, got {size} for 8 devices.* use {offered}\\."
    with pytest.raises(ValueError, match=message):
        parallel.check_batch_size(size)
    parallel.check_batch_size(16)
