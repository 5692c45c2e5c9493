"""Relations of two arrays: what the usual mistakes of a port do to an activation."""

import numpy as np
import pytest

from aff_jax.parity.explaining.evidence import SharedArray
from aff_jax.parity.explaining.relations import find_relation

RNG = np.random.default_rng(0)
A, B, C = (RNG.standard_normal((3, 6, 8, 4)) for _ in range(3))
SCALE = RNG.standard_normal(4)
EARLIER = [SharedArray("the input", B, B), SharedArray("the output of `a`", C, C)]


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (A, 2 * A, "PyTorch's values are 2 times JAX's"),
        (A, 0.25 * A, "JAX's are 4 times PyTorch's"),
        (A, A + 3, "PyTorch adds 3 to every value"),
        (A, A + SCALE, "differ by an offset for each channel"),
        (A, A * SCALE, "multiples of JAX's, each with its own factor"),
        (A, A * SCALE + SCALE, "a scale and an offset for each channel"),
        (A, A[:, ::-1], "flipped along axis 1"),
        (A, np.roll(A, 2, -1), "rotated along axis 3 by 2"),
        (A, A.swapaxes(1, 2), "axes 1 and 2 in another order"),
        (A, A + B, "PyTorch adds the input, and JAX does not"),
        (A + C, A, "JAX adds the output of `a`, and PyTorch does not"),
        (A, A * C, "PyTorch multiplies by the output of `a`"),
        (np.tanh(C), np.maximum(C, 0), "applies tanh to the output of `a`, and PyTorch relu"),
    ],
)
def test_a_relation_is_named(ours, theirs, words):
    assert words in find_relation(ours, theirs, EARLIER, 1e-12)


def test_flattened_pixels_in_another_order():
    ours = A.reshape(3, -1)
    theirs = A.reshape(3, 48, 4).swapaxes(1, 2).reshape(3, -1)
    assert "flattened in another order" in find_relation(ours, theirs, [], 1e-12)


def test_shifted_pixels():
    theirs = np.pad(A, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
    assert "shifted by (1, 0) pixels" in find_relation(A, theirs, [], 1e-12)


def test_unrelated_arrays_have_no_relation():
    assert find_relation(A, B, [], 1e-12) == ""
    # Close is not related: the tanh of small numbers is nearly the identity.
    small = 1e-2 * A
    assert "identity" not in find_relation(small, np.sinh(small), [SharedArray("x", A, A)], 1e-12)


def test_arrays_without_values_or_of_zeros_have_no_relation_by_a_factor():
    assert "times" not in find_relation(np.zeros((2, 3)), np.ones((2, 3)), [], 1e-12)
    find_relation(np.zeros((0, 3)), np.zeros((0, 4)), [], 1e-12)
