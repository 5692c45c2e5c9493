"""Test means, speed and finite checks of the metrics of training steps."""

import numpy as np
import pytest

from train.reporting.step_metrics import NonFiniteError, StepMetrics


def step(loss, rate=0.1, gradient_norm=1.0, skipped=0, in_row=0, **more):
    counts = {"skipped": skipped, "skipped_in_row": in_row}
    return {"loss": loss, "gradient_norm": gradient_norm, "learning_rate": rate, **counts, **more}


def test_means_and_last_learning_rate():
    metrics = StepMetrics(batch_size=8, max_skipped_steps=2)
    for loss, rate in ((1.0, 0.3), (2.0, 0.2), (6.0, 0.1)):
        metrics.add(step(np.float32(loss), np.float32(rate)))
    assert len(metrics) == 3
    means = metrics.compute_and_reset(3, None)
    assert means["loss"] == 3
    assert means["learning_rate"] == pytest.approx(0.1)
    assert means["skipped"] == 0
    assert means["examples_per_second"] > 0
    assert len(metrics) == 0


def test_first_step_has_no_speed():
    metrics = StepMetrics(batch_size=8, max_skipped_steps=2)
    metrics.add(step(1.0))
    assert "examples_per_second" not in metrics.compute_and_reset(1, None)


def test_skipped_steps_are_counted_but_not_averaged():
    metrics = StepMetrics(batch_size=8, max_skipped_steps=2)
    metrics.add(step(1.0, skipped=4, loss_scale=8.0))
    metrics.add(step(np.nan, gradient_norm=np.inf, skipped=5, in_row=1, loss_scale=8.0))
    metrics.add(step(2.0, gradient_norm=3.0, skipped=5, loss_scale=4.0))
    means = metrics.compute_and_reset(3, None)
    del means["examples_per_second"]
    assert means == {
        "loss": 1.5,
        "gradient_norm": 2.0,
        "learning_rate": 0.1,
        "skipped": 5.0,
        "loss_scale": 4.0,
    }


def test_no_means_if_all_steps_were_skipped():
    metrics = StepMetrics(batch_size=8, max_skipped_steps=2)
    metrics.add(step(np.nan, skipped=1, in_row=1))
    assert metrics.compute_and_reset(1, None) == {"learning_rate": 0.1, "skipped": 1.0}


@pytest.mark.parametrize(("kept", "message"), [(3, "checkpoint is of step 3"), (None, "no check")])
def test_error_names_the_step_with_too_many_skipped_in_a_row(kept, message):
    metrics = StepMetrics(batch_size=8, max_skipped_steps=2)
    metrics.add(step(1.0))
    metrics.add(step(np.nan, skipped=1, in_row=1))
    metrics.add(step(1.0, gradient_norm=np.inf, skipped=2, in_row=2))
    metrics.add(step(np.nan, skipped=3, in_row=3))
    with pytest.raises(NonFiniteError, match=rf"norm of inf at step 6, the last of 2 .*{message}"):
        metrics.compute_and_reset(7, kept)


def test_limit_of_one_skipped_step():
    metrics = StepMetrics(batch_size=8, max_skipped_steps=1)
    metrics.add(step(np.nan, skipped=1, in_row=1))
    with pytest.raises(NonFiniteError, match=r"got a loss of nan at step 7\. There"):
        metrics.compute_and_reset(7, None)
