"""Which class a value of a mask is."""

import numpy as np
import pytest

from train.data.sources.class_table import ClassTable, color_code, color_of


def test_class_numbers_and_255() -> None:
    table = ClassTable.numbered(["sky", "tree"])
    labels, unknown = table.labels(np.array([[0, 1, 255]], np.uint8))
    assert (labels.tolist(), labels.dtype, unknown) == ([[0, 1, 255]], np.uint8, [])
    assert table.unknown([1, 7, 0, 3, 255]) == [3, 7]
    assert table.class_colors == ()


def test_several_values_are_one_class() -> None:
    table = ClassTable(("road", "tree"), {7: 0, 8: 0, 300: 1, 255: 255})
    for stored in (np.array([[7, 8, 255]], np.uint8), np.array([[7, 8, 300]], np.int32)):
        labels, unknown = table.labels(stored)
        assert labels.tolist() == [[0, 0, 255 if stored[0, 2] == 255 else 1]]
        assert unknown == []
    assert table.count({7: 10, 8: 5, 255: 100}).tolist() == [15, 0]
    assert table.first_values() == [7, 300]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_unknown_values_are_ascending(dtype: type) -> None:
    table = ClassTable.numbered(["sky", "tree"])
    assert table.labels(np.array([[9, 1, 3], [0, 9, 254]], dtype))[1] == [3, 9, 254]


def test_an_ignored_class_is_left_out_and_the_others_move() -> None:
    table = ClassTable(("void", "sky", "tree"), {0: 0, 1: 1, 2: 2, 255: 255}).ignoring([0])
    assert table.class_names == ("sky", "tree")
    assert table.labels(np.array([[0, 1, 2, 255]], np.uint8))[0].tolist() == [[255, 0, 1, 255]]
    # A class with another value stays, and a value without a class is ignored.
    table = ClassTable(("road", "tree"), {7: 0, 8: 0, 9: 1}).ignoring([8, 11])
    assert (table.class_names, table.unknown([7, 8, 9, 11])) == (("road", "tree"), [])


def test_colors() -> None:
    assert color_of(color_code((1, 2, 3))) == (1, 2, 3)
    table = ClassTable(("sky",), {color_code((0, 128, 255)): 0, 0: 255}, by_color=True)
    assert table.class_colors == ("#0080ff",)
    with pytest.raises(ValueError, match=r"no ignored_values .* colors, got \[3\].*'0 0 0"):
        table.ignoring([3])
