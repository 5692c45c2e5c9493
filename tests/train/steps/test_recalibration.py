"""Recalibrated statistics against those of all values together."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from tests.train.small_network import SmallNetwork, batches, scaled, state_and_step
from train.steps.parallel import AXIS, PARALLEL
from train.steps.recalibration import make_recalibration_step, zero_moments


def shifted(images, labels, step, first_row):
    """Shift images so far that the mean of squares minus the squared mean would cancel."""
    return images.astype(float) / 255 + 1e5 + step, labels


@pytest.mark.parametrize("synchronized", [False, True])
def test_moments_are_those_of_all_values(synchronized):
    """The input of the batch norm is a convolution of the images, so NumPy can compute it."""
    norm = functools.partial(
        aff_jax.BatchNorm, axis_name=AXIS if synchronized else None, unbiased_variance=True
    )
    with jax.enable_x64(True):
        model = SmallNetwork(norm=norm, param_dtype=jnp.float64)
        state, _ = state_and_step(model, ema_decay=0.9)
        # The moving averages are evaluated, so the parameters must not be read.
        state = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
        parallel = PARALLEL["pmap"](jax.devices()[:2])
        state = parallel.replicate(state)
        step = parallel.compile(make_recalibration_step(model, shifted, AXIS))
        moments = parallel.replicate(zero_moments(state.batch_stats))
        for batch in batches(3):
            moments = step((state, moments), batch)
        kernel = np.asarray(state.ema["params"]["conv"]["kernel"])
        found = jax.device_get(moments.batch_stats["norm"])
    values = []
    for number, batch in enumerate(batches(3)):
        images = batch["image"] / 255 + 1e5 + number  # as in the next steps: 0, 1 and 2
        taps = [
            images[:, i : i + 3 : 2, j : j + 3 : 2] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        ]
        values.append(sum(taps))
    values = np.concatenate(values).reshape(-1, 4)
    np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["var"], values.var(0), rtol=1e-9)


def test_a_network_without_a_norm_is_refused():
    with pytest.raises(ValueError, match="a field `norm` to recalibrate, got Dense"):
        make_recalibration_step(nn.Dense(3), scaled, AXIS)
