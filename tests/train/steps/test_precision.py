"""Half precision: the loss scale against PyTorch's, and gradients that overflow."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.train.small_network import SmallNetwork, batches, state_and_step
from train.steps.parallel import PARALLEL
from train.steps.precision import DTYPES, make_loss_scale, unscale, update_loss_scale


def step_of(parallel, dtype, **options):
    model = SmallNetwork(dtype=DTYPES[dtype])
    state, step = state_and_step(model, loss_scale=dtype == "float16", **options)
    return parallel.replicate(state), parallel.compile(step, donate_state=True)


def test_the_scale_is_updated_as_pytorchs():
    """6,500 steps: a hundred are not finite, some in a row, and some 2,000 in a row are finite."""
    finite = np.ones(6500, bool)
    finite[np.random.default_rng(0).choice(1500, 95, replace=False)] = False
    finite[[2000, 4001, 4002, 4003, 6003]] = False
    _, (scales, good) = jax.lax.scan(
        lambda state, ok: (new := update_loss_scale(state, ok), (new.scale, new.fin_steps)),
        make_loss_scale(),
        finite,
    )
    scale, tracker = torch.tensor(2.0**16), torch.tensor(0, dtype=torch.int32)
    expected = []
    for ok in finite:
        # This is the call in torch.amp.GradScaler.update(), with its defaults.
        bad = torch.tensor(0.0 if ok else 1.0)
        torch._amp_update_scale_(scale, tracker, bad, 2.0, 0.5, 2000)
        expected.append((scale.item(), tracker.item()))
    np.testing.assert_array_equal(np.stack([scales, good], 1), np.array(expected))
    assert np.any(scales[1:] > scales[:-1])


def test_scaling_adds_no_rounding():
    loss_scale = make_loss_scale()
    gradients = {"w": jnp.float32([1e-3, -7.0, 0.0])}
    scaled = jax.tree.map(lambda gradient: gradient * loss_scale.scale, gradients)
    chex.assert_trees_all_equal(unscale(loss_scale, scaled), gradients)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_half_precision_is_close_to_single_and_the_state_is_float32(dtype, tolerance):
    """The tolerances are a few relative roundings, which are 2^-8 and 2^-11."""
    parallel = PARALLEL["shard_map"](jax.devices()[:2])
    results = {}
    for name in ("float32", dtype):
        state, step = step_of(parallel, name)
        for batch in batches(5):
            state, metrics = step(state, batch)
        results[name] = jax.device_get((state, metrics))
    (wide, wide_metrics), (half, metrics) = results.values()
    chex.assert_trees_all_equal_dtypes(
        (wide.params, wide.batch_stats, wide.opt_state),
        (half.params, half.batch_stats, half.opt_state),
    )
    assert metrics["loss"].dtype == np.float32
    assert metrics["loss"] != wide_metrics["loss"]
    assert metrics["loss"] == pytest.approx(float(wide_metrics["loss"]), rel=tolerance)
    assert metrics["gradient_norm"] == pytest.approx(
        float(wide_metrics["gradient_norm"]), rel=5 * tolerance
    )
    assert metrics["skipped"] == 0
    assert metrics.get("loss_scale", 2**16) == 2**16
    assert (half.loss_scale is None) == (dtype == "bfloat16")


def test_a_scale_that_is_too_large_is_halved_until_the_gradients_are_finite():
    parallel = PARALLEL["pmap"](jax.devices()[:2])
    state, step = step_of(parallel, "float16", ema_decay=0.5)
    first = jax.device_get(state)
    too_large = first.loss_scale.replace(scale=jnp.float32(2.0**40), fin_steps=jnp.int32(7))
    state = state.replace(loss_scale=parallel.replicate(too_large))
    (batch,) = batches(1)
    scales, skipped = [], []
    while not skipped or skipped[-1]:
        assert len(scales) < 40
        before = jax.device_get(state)
        state, metrics = step(state, batch)
        scales.append(float(metrics["loss_scale"]))
        skipped.append(int(metrics["skipped_in_row"]))
    bad = len(scales) - 1
    assert bad > 10
    assert scales == [2.0 ** (40 - k) for k in range(bad + 1)]
    assert skipped == [*range(1, bad + 1), 0]
    # Only the counters changed until the last step, which changed everything.
    for name in ("params", "batch_stats", "opt_state", "ema"):
        chex.assert_trees_all_equal(getattr(before, name), getattr(first, name))
    assert state.step == bad + 1
    assert state.skipped == bad
    assert state.update_count == 1
    assert state.loss_scale.fin_steps == 1
    assert not np.array_equal(state.params["head"]["kernel"], first.params["head"]["kernel"])
