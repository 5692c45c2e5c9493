"""Rows, and the arrays of calls one by one."""

import numpy as np

from aff_jax.parity.recording.recorder import Call
from aff_jax.parity.rows import ONLY_FLAX, Row, list_outputs


def test_a_row_without_numbers_differs():
    assert Row("a", "a", 1, (2,), note=ONLY_FLAX).is_one_sided
    assert Row("a", "a", 1, (2,), note="PyTorch's shape is (3,)").differs
    assert Row("", "[1]", 1, (2,)).is_output
    assert not Row("a", "a", 1, (2,), "same", 0.5, 0.5, 0.6).differs


def test_outputs_have_the_keys_of_their_call():
    one = np.zeros(2)
    call = Call("a", 1, (one, one), keys=("x", "y"))
    outputs = list_outputs([call], [call])
    assert [(output.module, output.key) for output in outputs] == [("a[0]", "x"), ("a[1]", "y")]
    assert outputs[0].noise == 0
