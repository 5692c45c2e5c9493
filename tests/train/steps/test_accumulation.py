"""Gradient accumulation against the whole batch, and against a loop over microbatches."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.small_network import SmallNetwork, batches, state_and_step
from train.data.batch import IGNORED_LABEL
from train.steps.accumulation import accumulate
from train.steps.parallel import PARALLEL


def test_adds_sums_and_carries_statistics():
    examples = jnp.arange(12.0).reshape(6, 2)

    def function(statistics, microbatch):
        return {"sum": jnp.sum(microbatch, axis=0)}, 0.5 * statistics + jnp.max(microbatch)

    sums, statistics = accumulate(function, jnp.float32(0), examples, 3)
    np.testing.assert_array_equal(sums["sum"], [30, 36])
    assert statistics == (3 / 2 + 7) / 2 + 11


class PerPixel(nn.Module):
    """A network with an output per pixel and without batch norm."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(10, param_dtype=jnp.float64)(
            nn.tanh(nn.Dense(4, param_dtype=float)(images))
        )


def masks(count):
    """Yield batches whose microbatches have very different numbers of valid labels."""
    rng = np.random.default_rng(0)
    for batch in batches(count):
        labels = rng.integers(0, 10, (16, 6, 6)).astype(np.int32)
        ignored = rng.random(labels.shape) < np.linspace(0, 1, 16)[:, None, None]
        yield {**batch, "label": np.where(ignored, IGNORED_LABEL, labels)}


def test_without_batch_norm_microbatches_equal_the_whole_batch():
    """The sums have another order, so this is in double precision."""
    results = []
    with jax.enable_x64(True):
        for accumulation in (1, 4):
            state, step = state_and_step(PerPixel(), accumulation=accumulation)
            parallel = PARALLEL["shard_map"](jax.devices()[:2])
            state, train_step = parallel.replicate(state), parallel.compile(step, donate_state=True)
            for batch in masks(3):
                state, metrics = train_step(state, batch)
            results.append(jax.device_get((state, metrics)))
    chex.assert_trees_all_close(*results, rtol=1e-12, atol=1e-14)
    assert results[0][1]["loss"] > 0.1


@pytest.mark.parametrize("count", [1, 4])
def test_with_batch_norm_each_microbatch_is_normalized_by_itself(count):
    """Each microbatch passes the running statistics to the next."""
    with jax.enable_x64(True):
        model = SmallNetwork(param_dtype=jnp.float64)
        (batch,) = batches(1)
        state, step = state_and_step(model, accumulation=count)
        parallel = PARALLEL["pmap"](jax.devices()[:1])
        state = jax.device_get(state)
        new_state, metrics = parallel.compile(step, donate_state=True)(
            parallel.replicate(state), batch
        )

        def loss_of(params, batch_stats, images, labels):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images / 255, True, mutable=["batch_stats"])
            picked = jax.nn.log_softmax(logits)[jnp.arange(16 // count), labels]
            return -jnp.sum(picked) / 16, new["batch_stats"]

        gradient_of = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
        batch_stats, losses, gradients = state.batch_stats, [], []
        for first in range(0, 16, 16 // count):
            microbatch = [batch[name][first : first + 16 // count] for name in ("image", "label")]
            (loss, batch_stats), gradient = gradient_of(state.params, batch_stats, *microbatch)
            losses.append(loss)
            gradients.append(gradient)
        gradient = jax.tree.map(lambda *leaves: sum(leaves), *gradients)
        # The first update with momentum is the gradient times the rate.
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
        assert metrics["loss"] == pytest.approx(float(sum(losses)), rel=1e-12)
        assert metrics["gradient_norm"] == pytest.approx(
            float(optax.tree.norm(gradient)), rel=1e-12
        )
        chex.assert_trees_all_close(new_state.params, expected, rtol=1e-12, atol=1e-15)
        chex.assert_trees_all_close(new_state.batch_stats, batch_stats, rtol=1e-12)
        assert metrics["learning_rate"] == pytest.approx(0.1)
        assert new_state.step == 1
