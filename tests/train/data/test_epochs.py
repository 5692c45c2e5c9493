"""Conversion of epochs to steps, with and without a remainder."""

import pytest

from train.data.epochs import Epochs


def test_epochs_convert_to_steps_and_back():
    epochs = Epochs(examples=1437, batch_size=64, total=60.0)
    assert epochs.total_steps == 1347  # 60 * 1437 / 64 = 1347.19
    assert epochs.steps(10.0) == 225  # 224.5 as a float is above, so it is not rounded to even
    assert epochs.after(1347) == pytest.approx(1347 * 64 / 1437)


@pytest.mark.parametrize("every", [0.01, 0.3, 1.0, 7.0, 100.0])
def test_periodic_actions_are_due_every_n_epochs_and_at_the_end(every):
    epochs = Epochs(examples=100, batch_size=32, total=20.0)
    due = [step for step in range(1, epochs.total_steps + 1) if epochs.due_after(step, every)]
    assert due[-1] == epochs.total_steps
    expected = {max(1, round(n * every * 100 / 32)) for n in range(1, int(20 / every) + 1)}
    assert set(due) == {step for step in expected if step <= epochs.total_steps} | {due[-1]}


def test_a_run_has_at_least_one_step():
    assert Epochs(examples=10, batch_size=1000, total=1.0).total_steps == 1


def test_a_run_of_few_steps_is_reported():
    assert Epochs(examples=1000, batch_size=10, total=1.0).warning is None
    few = Epochs(examples=28, batch_size=64, total=20.0)
    assert few.warning.startswith("This run has only 9 steps")
    assert "200 steps are --config.epochs=458.0;" in few.warning
    assert Epochs(examples=28, batch_size=64, total=458.0).total_steps >= 200


def test_a_step_that_is_longer_than_the_run_is_reported():
    assert "more than config.epochs" not in Epochs(examples=10, batch_size=8, total=1.0).warning
    assert "20 examples is 2 epochs of 10 examples, more than config.epochs=0.5" in str(
        Epochs(examples=10, batch_size=20, total=0.5).warning
    )
