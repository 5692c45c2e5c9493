"""Two inputs that are exchanged are recognized."""

import numpy as np
import pytest

from aff_jax.parity.explaining.layer_inputs import are_exchanged

A, B = np.random.default_rng(0).standard_normal((2, 3, 4))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(A, B), (B, A)], True),
        ([(A, B + 1e-9), (B, A)], True),
        ([(A, B + 1e-3), (B, A)], False),
        ([(A, A), (B, B)], False),
        ([(A, A), (A, A)], False),
        ([(A, B)], False),
        ([(A, B), (B, None)], False),
        ([(A, B[:2]), (B, A)], False),
    ],
)
def test_exchanged_inputs(pairs, expected):
    assert are_exchanged(pairs, 1e-6) is expected
