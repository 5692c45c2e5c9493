"""The training state: its initial values, its moving averages, and its checks."""

import jax
import numpy as np
import optax
import pytest

from aff_jax.inspection import count_parameters
from tests.train.small_network import SmallNetwork
from train.steps.state import (
    TrainState,
    all_finite,
    make_state,
    moving_average,
    with_variables,
)


@pytest.fixture(scope="module")
def state():
    return make_state(SmallNetwork(), optax.sgd(0.1), 0, (6, 6, 1), ema=True, loss_scale=True)


def test_initial_state_counts_no_steps_and_averages_its_own_variables(state):
    assert (state.step, state.skipped, state.skipped_in_row, state.update_count) == (0, 0, 0, 0)
    assert state.step.dtype == np.int32
    assert state.loss_scale.scale == 2.0**16
    assert state.eval_variables is state.ema
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.variables)


def test_new_variables_replace_parameters_and_averages_without_shared_memory(state):
    ones = jax.tree.map(np.ones_like, state.variables)
    replaced = with_variables(state, ones)
    jax.tree.map(np.testing.assert_array_equal, replaced.variables, ones)
    jax.tree.map(np.testing.assert_array_equal, replaced.ema, ones)
    pairs = zip(*map(jax.tree.leaves, (replaced.variables, replaced.ema)), strict=True)
    assert not any(np.shares_memory(*pair) for pair in pairs)


@pytest.mark.parametrize(("updates", "decay"), [(0, 0.1), (5, 0.4), (10_000, 0.99)])
def test_decay_of_the_moving_average_grows_with_the_number_of_updates(updates, decay):
    old, new = {"w": np.float32([1, -2])}, {"w": np.float32([3, 4])}
    state = TrainState(
        step=np.int32(updates + 3),
        skipped=np.int32(3),
        params=new,
        batch_stats=new,
        opt_state=(),
        ema={"params": old, "batch_stats": old},
    )
    averages = moving_average(state, decay=0.99)
    expected = decay * old["w"] + (1 - decay) * new["w"]
    for collection in ("params", "batch_stats"):
        np.testing.assert_allclose(averages[collection]["w"], expected, rtol=1e-6)
    assert moving_average(state.replace(ema=None), decay=0.99) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_with_one_value_that_is_not_finite_is_found(state, value):
    assert all_finite(state)
    bias = np.float32([0] * 9 + [value])
    params = {**state.params, "head": {**state.params["head"], "bias": bias}}
    assert not all_finite(state.replace(params=params))


def test_parameters_are_counted(state):
    # A 3x3 convolution to 4 channels, scale and bias of batch norm, and a dense layer to 10.
    assert count_parameters(state.params) == 9 * 4 + 2 * 4 + 4 * 10 + 10
