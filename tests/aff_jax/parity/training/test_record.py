"""Values of a training step."""

import math

import numpy as np

from aff_jax.parity.training.record import BatchMoments, TrainingStep


def test_the_state_before_the_first_step_has_weights_only():
    weights = {"fc.weight": np.ones(2)}
    step = TrainingStep(weights=weights)
    assert step.weights is weights
    assert math.isnan(step.loss)
    for empty in (step.outputs, step.gradients, step.moments, step.batches, step.statistics):
        assert not empty
    # Steps do not share their empty mappings.
    assert TrainingStep().weights is not TrainingStep().weights


def test_batch_moments_have_names():
    moments = BatchMoments(np.zeros(3), np.ones(3), 8)
    mean, var, size = moments
    assert moments.mean is mean
    assert moments.var is var
    assert moments.size == size == 8
