"""The first mismatch of a comparison, and whether it is equal."""

from aff_jax.parity.result import Parity
from aff_jax.parity.rows import ONLY_JAX, Row

SAME = Row("a", "a", 1, (2,), "same", 0.0, 0.0, 1e-6)
OFF = Row("b", "b", 1, (2,), "same", 1.0, 1.0, 1e-6)
ONE_SIDED = Row("c", "c", 1, (2,), note=ONLY_JAX)
OUT = Row("", "", 1, (2,), "same", 0.0, 0.0, 1e-6)


def test_a_call_of_one_side_counts_only_if_the_next_row_differs():
    assert Parity([SAME, ONE_SIDED, OUT], "float32").equal
    assert Parity([SAME, ONE_SIDED, OFF, OUT], "float32").first_mismatch is ONE_SIDED
    assert Parity([SAME, OFF, OUT], "float32").first_mismatch is OFF


def test_without_a_compared_output_it_is_not_equal():
    assert not Parity([SAME], "float32").equal
    assert Parity([SAME], "float32").first_mismatch is None
