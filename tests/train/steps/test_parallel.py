"""Steps on all devices: equal for every strategy, compiled once, with donated buffers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train.steps.parallel import AXIS, PARALLEL, check_batch_size
from train.steps.state import TrainState

EVERY = pytest.mark.parametrize("name", PARALLEL)


def small_state():
    return TrainState(
        step=jnp.zeros((), jnp.int32), params={"w": jnp.ones(3)}, batch_stats={}, opt_state=()
    )


def step(state, batch):
    total = lax.psum(jnp.sum(batch["x"]), AXIS)
    params = {"w": state.params["w"] + total}
    return state.replace(step=state.step + 1, params=params), {"loss": total}


def rows(state, batch):
    """Return the first value of each device's block, and the size of a block."""
    firsts = lax.all_gather(batch["x"][0], AXIS)
    return {"firsts": firsts, "size": jnp.asarray(batch["x"].shape[0])}


@EVERY
def test_every_device_has_its_block_and_the_state_is_not_stacked(name):
    parallel = PARALLEL[name]()
    state = parallel.replicate(small_state())
    x = np.arange(16, dtype=np.float32)
    found = parallel.compile(rows)(state, {"x": x})
    np.testing.assert_array_equal(found["firsts"], x[::2])
    assert found["size"] == 2
    new_state, metrics = parallel.compile(step, donate_state=True)(state, {"x": x})
    assert metrics["loss"] == x.sum()
    assert new_state.params["w"].shape == (3,)
    assert len(new_state.params["w"].devices()) == jax.local_device_count() == 8
    assert metrics["loss"].shape == ()


@EVERY
def test_runs_on_some_of_the_devices(name):
    parallel = PARALLEL[name](jax.devices()[2:4])
    found = parallel.compile(rows)(parallel.replicate(small_state()), {"x": np.arange(6.0)})
    np.testing.assert_array_equal(found["firsts"], [0, 3])
    assert found["firsts"].devices() == set(jax.devices()[2:4])


@EVERY
@pytest.mark.parametrize("placed", [False, True])
def test_the_second_step_is_not_compiled_again_and_buffers_are_donated(name, placed):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    parallel = PARALLEL[name]()
    train_step = parallel.compile(step, donate_state=True)
    state = parallel.replicate(small_state())
    batch = {"x": np.ones(8, np.float32)}
    if placed:
        batch = parallel.place(batch)
    first, _ = train_step(state, batch)
    assert compiled, "no compilation was recorded: did JAX rename the event?"
    compiled.clear()
    train_step(first, batch)
    assert compiled == []
    assert first.params["w"].is_deleted()


@EVERY
def test_evaluation_does_not_donate_the_state(name):
    parallel = PARALLEL[name]()
    state = parallel.replicate(small_state())
    eval_step = parallel.compile(lambda state, batch: step(state, batch)[1])
    assert eval_step(state, {"x": np.ones(8, np.float32)})["loss"] == 8
    assert not state.params["w"].is_deleted()


@EVERY
def test_placed_arrays_are_not_transferred_again(name):
    """Nor are rows that were gathered on the devices from a replicated dataset."""
    parallel = PARALLEL[name]()
    state = parallel.replicate(small_state())
    data = parallel.replicate(jnp.arange(100.0))
    index = np.arange(16)[::-1].copy()
    gather = jax.jit(lambda data, index: data[index])
    eval_step = parallel.compile(rows)
    eval_step(state, {"x": gather(data, parallel.place({"index": index})["index"])})
    placed = parallel.place({"index": index})
    with jax.transfer_guard("disallow"):
        batch = {"x": gather(data, placed["index"])}
        assert len(batch["x"].sharding.device_set) == 8
        assert not batch["x"].is_fully_replicated
        assert parallel.place(batch)["x"] is batch["x"]
        found = eval_step(state, batch)
    np.testing.assert_array_equal(found["firsts"], index[::2])


@pytest.mark.parametrize(("size", "offered"), [(12, "8 or 16"), (3, "8"), (0, "8")])
def test_refuses_a_batch_that_the_devices_do_not_divide(size, offered):
    message = f"divides, got {size} for 8 devices.* use {offered}\\."
    with pytest.raises(ValueError, match=message):
        check_batch_size(size, 8)
    check_batch_size(16, 8)


def test_refuses_a_batch_that_the_microbatches_do_not_divide():
    with pytest.raises(ValueError, match=r"divide, got 16 for 8 times 4\. .* use 32\."):
        check_batch_size(16, 8, accumulation=4)
    check_batch_size(64, 8, accumulation=4)
