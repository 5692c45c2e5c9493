"""Recalibrated statistics against those of all values at once."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from tests.train.small_network import SmallNetwork, batches, scaled, state_and_step
from train.steps.parallel import AXIS, PARALLEL
from train.steps.recalibration import make_recalibration_step, no_moments


def shifted(images, labels, step, first_row):
    """Of a mean so large beside the deviation that its square loses what the other holds."""
    return images.astype(float) / 255 + 1e5 + step, labels


@pytest.mark.parametrize("synchronised", [False, True])
def test_moments_are_those_of_all_values_at_once(synchronised):
    """The first batch norm reads a convolution of the images, whatever statistics come after."""
    norm = functools.partial(
        aff_jax.BatchNorm, axis_name=AXIS if synchronised else None, unbiased_variance=True
    )
    with jax.enable_x64(True):
        model = SmallNetwork(norm=norm, param_dtype=jnp.float64)
        state, _ = state_and_step(model, ema_decay=0.9)
        # What is evaluated is the average; the parameters themselves are not to be read.
        state = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
        parallel = PARALLEL["pmap"](jax.devices()[:2])
        state = parallel.replicate(state)
        step = parallel.eval_step(make_recalibration_step(model, shifted, AXIS))
        moments = parallel.replicate(no_moments(state.batch_stats))
        for batch in batches(3):
            moments = step((state, moments), batch)
        kernel = np.asarray(state.ema["params"]["conv"]["kernel"])
        found = jax.device_get(moments.batch_stats["norm"])
    values = []
    for number, batch in enumerate(batches(3)):
        images = batch["image"] / 255 + 1e5 + number  # as in steps 0, 1 and 2, which come next
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
