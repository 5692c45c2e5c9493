"""Samples of the arrays of training steps, and what they allow."""

import numpy as np
import pytest

from aff_jax.parity.training.record import BatchMoments, TrainingStep
from aff_jax.parity.training.samples import SAMPLE_SIZE, Samples, Side
from aff_jax.parity.training.step_parity import StepRow

BEFORE = np.arange(1000.0).reshape(10, 100)


def make_samples(**options):
    """Return samples of one step that adds 1 in PyTorch, and 1.5 in JAX, to each weight."""
    samples = Samples(**options)
    samples.add(TrainingStep(weights={"w": BEFORE}), TrainingStep(weights={"w": BEFORE}))
    gradients = {"w": np.full((10, 100), 2.0)}
    calls = {"bn": [BatchMoments(np.zeros(2, np.float32), np.ones(2, np.float32), 4)]}
    samples.add(
        TrainingStep(
            1.0, [], gradients, {"w.exp_avg": BEFORE, "w.max": BEFORE}, calls, {"w": BEFORE + 1}
        ),
        TrainingStep(2.0, [], gradients, {"w.exp_avg": BEFORE}, {}, {"w": BEFORE + 1.5}),
    )
    return samples


def test_both_sides_and_all_steps_are_sampled_at_the_same_places():
    samples = make_samples()
    for side, update in ((samples.torch, 1.0), (samples.jax, 1.5)):
        before, after = side.weights["w"]
        assert before.shape == (SAMPLE_SIZE,)
        np.testing.assert_array_equal(after - before, update)
        assert len(np.unique(before)) == SAMPLE_SIZE
    np.testing.assert_array_equal(samples.torch.weights["w"][0], samples.jax.weights["w"][0])


def test_small_arrays_and_norms_are_whole():
    side, array = Side(), np.array([[3.0, 4.0]])
    side.add(TrainingStep(weights={"w": array}))
    side.add(
        TrainingStep(
            0.5, [array], {"w": array, "b": np.array([12.0]), "none": None}, weights={"w": array}
        )
    )
    np.testing.assert_array_equal(side.gradients["w"], [[3, 4]])
    assert side.gradients["none"] == [None]
    assert side.norms == [13.0]
    assert side.losses == [0.5]


def test_samples_are_copies():
    """PyTorch's arrays are views that change in the next step."""
    side, array = Side(), np.ones(3)
    side.add(TrainingStep(weights={"w": array}, statistics={"s": array}))
    array[:] = 7
    np.testing.assert_array_equal(side.weights["w"][0], 1)
    np.testing.assert_array_equal(side.statistics["s"][0], 1)


def test_moments_of_batches_and_unmatched_states_are_kept():
    samples = make_samples()
    assert samples.batch_moments[0]["bn"][0].mean.dtype == np.float64
    assert samples.unmatched_states == {"max"}


def test_is_updated():
    samples = make_samples()
    assert samples.is_updated("w")
    samples.jax.weights["w"].append(samples.jax.weights["w"][-1])
    assert not samples.is_updated("w")


@pytest.mark.parametrize("is_rounding", [False, True])
def test_a_weight_may_differ_by_a_share_of_its_updates(is_rounding):
    samples = make_samples(rounding_only={"w"} if is_rounding else set())
    row = samples.excuse_rounding(StepRow(1, "weight", "w", 0.1, 0.1, 0.01), 0.02)
    # The updates of both sides are 1 + 1.5.
    assert row.allowed_abs == pytest.approx(2 * 2.5 if is_rounding else 0.02 * 2.5)
    assert row.differs != is_rounding
    assert bool(row.note) == is_rounding


def test_other_rows_are_not_excused():
    samples = make_samples(rounding_only={"w"})
    for row in (
        StepRow(0, "weight", "w", 0.1, 0.1, 0.01),
        StepRow(1, "statistic", "w", 0.1, 0.1, 0.01),
        StepRow(1, "moment", "w.exp_avg", 0.1, 0.1, 0.01),
    ):
        assert samples.excuse_rounding(row, 0.02) is row
    equal = StepRow(1, "moment", "w.exp_avg", 0.0, 0.0, 0.01)
    assert samples.excuse_rounding(equal, 0.02).note == "gradient is a rounding error"
