"""Rows, and the arrays of calls one by one."""

import numpy as np

from aff_jax.parity.recording.recorder import Call
from aff_jax.parity.rows import ONLY_JAX, Row, list_outputs


def test_a_row_without_numbers_differs():
    assert Row("a", "a", 1, (2,), note=ONLY_JAX).is_one_sided
    assert Row("a", "a", 1, (2,), note="PyTorch's shape is (3,)").differs
    assert Row("", "[1]", 1, (2,)).is_output
    assert not Row("a", "a", 1, (2,), "same", 0.5, 0.5, 0.6).differs


def test_outputs_have_the_keys_of_their_call():
    one = np.zeros(2)
    call = Call("a", 1, (one, one), keys=("x", "y"))
    outputs = list_outputs([call], [call])
    assert [(output.module, output.key) for output in outputs] == [("a[0]", "x"), ("a[1]", "y")]
    assert outputs[0].noise == 0


def test_each_array_of_a_call_is_an_output():
    one, two = np.float32([1]), np.float32([2, 3])
    calls = [Call("a", 1, (one, two)), Call("b", 1, (one,)), Call("c", 1, ())]
    outputs = list_outputs(calls, [Call("a", 1, (one, two + 1)), Call("other", 1, (one,))])
    assert [o.module for o in outputs] == ["a[0]", "a[1]", "b"]
    # The perturbed run made another call than b: its noise is not known.
    assert [o.noise for o in outputs] == [0, 1, 0]


def test_a_row_without_a_number_differs():
    assert Row("a", "a", 1, (2,)).differs
    assert not Row("a", "a", 1, (2,), max_rel=0.0).differs
