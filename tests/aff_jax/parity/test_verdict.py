"""The outcome of a comparison in words."""

import dataclasses

from aff_jax.parity.result import Parity
from aff_jax.parity.verdict import COLUMNS, format_row, outcome, verdict
from tests.aff_jax.parity.handmade_rows import ABSENT, OFF, OUT, SAME, ZERO


def test_networks_are_not_equal_if_their_outputs_were_not_compared():
    outcome = Parity([SAME], "float32", 1e-4, unmatched=["head"])
    assert not outcome.equal
    assert outcome.to_text().endswith(
        "Undecided: the outputs were not compared. "
        "Not compared, as they have no counterpart: 1 (head)."
    )


def test_a_row_has_a_text_for_each_column():
    for row in (SAME, ABSENT):
        assert len(format_row(row)) == len(COLUMNS)
    assert format_row(OUT)[:4] == ("(output)", "(output)", "1", "2x10")
    assert format_row(ABSENT)[-4:] == ("", "", "", "called in JAX only")


def test_noise_that_may_hide_a_mistake_is_said():
    noisy = dataclasses.replace(OUT, allowed_rel=0.01)
    assert "may hide a mistake: compare in float64" in verdict(Parity([SAME, noisy], "float32"))
    assert "narrower dtype" in verdict(Parity([SAME, noisy], "float64"))
    assert "may hide" not in verdict(Parity([SAME, noisy], "float32", tolerance=0.1))
    assert outcome(Parity([ZERO, OFF, OUT], "float32")) == "Different"
