"""Training is equal on any number of devices and for every strategy, in double precision."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aff_jax
from tests.train.small_network import SmallNetwork, batches, state_and_step
from train.steps.parallel import AXIS, PARALLEL

STEPS = 20


def network(synchronized):
    norm = functools.partial(aff_jax.BatchNorm, axis_name=AXIS if synchronized else None)
    return SmallNetwork(norm=norm, param_dtype=jnp.float64)


def train(name, devices, synchronized):
    """Return the state and the last loss after 20 steps."""
    with jax.enable_x64(True):
        state, step = state_and_step(network(synchronized))
        parallel = PARALLEL[name](jax.devices()[:devices])
        state, train_step = parallel.replicate(state), parallel.compile(step, donate_state=True)
        for batch in batches(STEPS):
            state, metrics = train_step(state, batch)
        return jax.device_get(state), float(metrics["loss"])


@functools.cache
def expected():
    return train("pmap", 1, synchronized=True)


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("name", PARALLEL)
def test_synchronized_batch_norm_equals_one_device(name, devices):
    """The sums have another order: the error is 1e-16 at first, below 1e-12 after 20 steps."""
    state, loss = train(name, devices, synchronized=True)
    assert state.step == STEPS
    assert loss == pytest.approx(expected()[1], rel=1e-12)
    chex.assert_trees_all_close(state, expected()[0], rtol=1e-11, atol=1e-13)


def one_block_at_a_time(devices):
    """Compute the block of each device on one device, one after the other."""
    model = network(synchronized=False)
    optimizer = optax.sgd(lambda count: 0.1 / (1 + count), momentum=0.9)

    @jax.jit
    def gradient(params, batch_stats, images, labels):
        def loss_of(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images / 255, True, mutable=["batch_stats"])
            picked = jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
            return -picked.mean(), new["batch_stats"]

        return jax.grad(loss_of, has_aux=True)(params)

    def mean(*trees):
        return jax.tree.map(lambda *leaves: sum(leaves) / devices, *trees)

    with jax.enable_x64(True):
        state, _ = state_and_step(model)
        params, batch_stats, opt_state = state.params, state.batch_stats, state.opt_state
        for batch in batches(STEPS):
            blocks = zip(
                *(np.split(batch[name], devices) for name in ("image", "label")), strict=True
            )
            gradients, statistics = zip(
                *(gradient(params, batch_stats, *block) for block in blocks), strict=True
            )
            batch_stats = mean(*statistics)
            updates, opt_state = optimizer.update(mean(*gradients), opt_state)
            params = optax.apply_updates(params, updates)
        return jax.device_get((params, batch_stats))


@pytest.mark.parametrize("devices", [2, 8])
def test_local_batch_norm_equals_each_block_by_itself(devices):
    expected_state = one_block_at_a_time(devices)
    for name in PARALLEL:
        state, loss = train(name, devices, synchronized=False)
        chex.assert_trees_all_close(
            (state.params, state.batch_stats), expected_state, rtol=1e-11, atol=1e-13
        )
        # It differs from one device, or this test could not fail.
        assert abs(loss - expected()[1]) > 1e-4
