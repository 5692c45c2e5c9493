"""Programs run once or twice, the second time with every number perturbed."""

import jax
import numpy as np

from aff_jax.parity.recording.inputs import list_runs
from aff_jax.parity.recording.recorder import Inputs, Recorder, is_array, record

X = np.float32([[1.0, -2.0], [0.5, 3.0]])


def test_a_perturbed_run_changes_every_number_by_one_unit_in_the_last_place():
    recorder = Recorder()

    def program(variables, x, number, flag):
        assert flag is True  # flags stay Python values
        for name, array in (("w", variables["w"]), ("x", x), ("number", number)):
            recorder.note(name, array, ())

    inputs = Inputs((X,), {"number": np.int32(3), "flag": True})
    runs = list_runs({"w": 2 * X}, inputs, (False, True))
    plain, perturbed = record(program, runs, recorder)
    assert [call.module for call in plain] == ["w", "x", "number"]
    for before, after, exact in zip(plain, perturbed, (2 * X, X, np.int32(3)), strict=True):
        np.testing.assert_array_equal(before.outputs[0], exact)
        if before.module != "number":
            units = np.abs(after.outputs[0] - exact) / np.spacing(np.abs(exact))
            # Below a power of two the distance is half of that above it.
            assert set(units.ravel()) <= {0.5, 1.0}
    np.testing.assert_array_equal(perturbed[2].outputs[0], 3)


def test_numbers_of_64_bits_keep_all_digits():
    recorder = Recorder(inputs_of=("whole",))
    x = np.float64([1 / 3, 2**40 + 2**-10])
    with jax.enable_x64(True):
        ((call,),) = record(
            lambda variables, x: recorder.note("whole", x, (x, 7)),
            [({}, Inputs((x,), {}))],
            recorder,
        )
    np.testing.assert_array_equal(call.outputs[0], x)
    np.testing.assert_array_equal(call.inputs[0], x)


def test_keys_and_python_numbers_are_no_arrays():
    assert is_array(X)
    assert is_array(np.float32(1))
    assert not any(map(is_array, (jax.random.key(0), 1.5, True, None, "x")))
