"""The order in which an array has the values of another one."""

import numpy as np
import pytest

from aff_jax.parity.explaining.reordering import find_order, find_shift

X = np.random.default_rng(0).standard_normal((3, 12, 12, 6))


def fits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (X.swapaxes(1, 2), "axes 1 and 2 in another order"),
        (X[:, ::-1], "flipped along axis 1"),
        (np.roll(X, 2, 3), "rotated along axis 3 by 2"),
        (X.reshape(3, 12, 12, 2, 3).swapaxes(3, 4).reshape(X.shape), "as a channel shuffle does"),
        (
            X[..., [1, 0, 2, 5, 4, 3]],
            "it has JAX's positions 1, 0, 2, 5, 4, 3",
        ),
        (X.reshape(3, -1), "in another shape and order"),
        (np.random.default_rng(1).permuted(X, axis=0), "in another order"),
    ],
)
def test_order_is_named(theirs: np.ndarray, words: str) -> None:
    assert words in find_order(X, theirs, fits)


def test_order_of_a_flattened_array_has_advice() -> None:
    rows = X.reshape(3, 144, 6)[:, :, 0]
    theirs = rows.reshape(3, 12, 12).swapaxes(1, 2).reshape(3, 144)
    found = find_order(rows, theirs, fits)
    assert "flattened in another order" in found
    assert "transpose to that before you flatten" in found


def test_other_values_have_no_order() -> None:
    assert find_order(X, X + 1, fits) == ""


def test_shift_is_named() -> None:
    assert "shifted by (1, 0) pixels" in find_shift(X, np.roll(X, 1, 1), fits)
    assert find_shift(X[:, :5], np.roll(X[:, :5], 1, 1), fits) == ""  # too small to tell
