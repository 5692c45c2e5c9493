"""Rows, verdicts and text of a comparison of training steps."""

import math

import pytest

from aff_jax.parity.training.step_parity import KINDS, StepParity, StepRow

LOSS = StepRow(1, "loss", "", 1e-9, 1e-9, 1e-6)
GRADIENT = StepRow(1, "gradient", "fc.weight", 1e-3, 1e-2, 1e-2)
WEIGHT = StepRow(1, "weight", "fc.weight", 0.5, 0.25, 0.1, "a remark")
SMALL = StepRow(1, "weight", "fc.bias", 1e-8, 0.9, 0.1)


@pytest.mark.parametrize(("max_abs", "differs"), [(0.1, False), (0.2, True), (math.nan, True)])
def test_a_row_differs_above_the_allowed_difference(max_abs, differs):
    assert StepRow(1, "loss", "", max_abs, 0.1, 0.1).differs == differs


def test_a_row_is_undecided_if_more_than_a_hundredth_is_allowed():
    assert GRADIENT.undecided  # allowed is ten times as large as max_abs, which is 1 %
    assert not LOSS.undecided  # 1e-6 is allowed
    assert not WEIGHT.undecided  # it differs


def test_first_and_largest():
    result = StepParity([LOSS, GRADIENT, WEIGHT, SMALL], "float32", 1)
    assert not result.equal
    assert result.first_mismatch is WEIGHT
    assert result.largest("gradient") is GRADIENT
    assert result.largest("weight") is SMALL
    assert result.largest("moment") is None
    assert {row.kind for row in result.rows} < set(KINDS)


def test_text_of_a_difference():
    result = StepParity([LOSS, WEIGHT, SMALL], "float64", 1, "The reason.", ["A note."])
    lines = result.to_text().splitlines()
    assert lines[0].split() == ["step", "kind", "name", "max", "abs", "max", "rel", "note"]
    # A row that differs is shown in place of one with a larger relative difference.
    assert lines[2].split()[:4] == ["!", "1", "weight", "fc.weight"]
    assert lines[2].endswith("a remark")
    assert "fc.bias" not in result.to_text()
    assert "fc.bias" in result.to_text(every=True)
    assert lines[-3:] == [
        "Different: 1 of 3 arrays differ in 1 step in float64. The first one is the weight of "
        "fc.weight, step 1.",
        "The reason.",
        "A note.",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_text_of_equal_steps(dtype):
    text = StepParity([LOSS, GRADIENT], dtype, 2).to_text()
    assert f"Equal: 2 steps in {dtype}." in text
    assert "loss 1.0e-09, gradient 1.0e-02." in text
    assert "Rounding alone may change 1 of 2 arrays by more than 1%" in text
    assert ("float64=True" in text) == (dtype == "float32")
