"""Means, speed and the check that numbers are finite, over the steps since the last report."""

import numpy as np
import pytest

from train.window import NonFiniteError, Window


def step(loss, rate=0.1, gradient_norm=1.0):
    return {"loss": loss, "gradient_norm": gradient_norm, "learning_rate": rate}


def test_means_over_the_steps_and_the_last_learning_rate():
    window = Window(batch_size=8)
    for loss, rate in ((1.0, 0.3), (2.0, 0.2), (6.0, 0.1)):
        window.add(step(np.float32(loss), np.float32(rate)))
    assert len(window) == 3
    means = window.close(3, None)
    assert means["loss"] == 3
    assert means["learning_rate"] == pytest.approx(0.1)
    assert means["examples_per_second"] > 0
    assert len(window) == 0


def test_the_first_step_which_compiles_has_no_speed():
    window = Window(batch_size=8)
    window.add(step(1.0))
    assert "examples_per_second" not in window.close(1, None)


@pytest.mark.parametrize(("kept", "message"), [(3, "checkpoint is of step 3"), (None, "no check")])
def test_the_first_step_that_is_not_finite_is_named(kept, message):
    window = Window(batch_size=8)
    for metrics in (step(1.0), step(1.0, gradient_norm=np.inf), step(np.nan)):
        window.add(metrics)
    with pytest.raises(NonFiniteError, match=rf"gradient norm of inf at step 6.*{message}"):
        window.close(7, kept)
