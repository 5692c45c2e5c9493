"""The forms of classes.txt."""

import pathlib

import pytest

from train.data.sources.class_table import ClassTable, color_code
from train.data.sources.classes_file import read_classes_file


def read(folder: pathlib.Path, text: str) -> ClassTable:
    path = folder / "classes.txt"
    path.write_text(text, encoding="utf-8")
    return read_classes_file(path)


@pytest.mark.parametrize(
    ("text", "names", "numbers"),
    [
        ("sky\n a tree \nhouse\n\n", ("sky", "a tree", "house"), {0: 0, 1: 1, 2: 2, 255: 255}),
        ("# 2026\n0\n1\n", ("0", "1"), {0: 0, 1: 1, 255: 255}),  # digits are names
        ("sky\nVoid\ntree\n", ("sky", "tree"), {0: 0, 1: 255, 2: 1, 255: 255}),
        # labelme's labels.txt: its first name has the value 255
        ("__ignore__\n_background_\ncat\n", ("_background_", "cat"), {0: 0, 1: 1, 255: 255}),
        ("0 no\n255 yes\n", ("no", "yes"), {0: 0, 255: 1}),
        ("# a comment\n7, road\n\n8 road\n2 tree\n11 void", ("road", "tree"), None),
        ("\ufeffsky\ntree\n", ("sky", "tree"), {0: 0, 1: 1, 255: 255}),  # Windows
    ],
)
def test_names_and_values(
    tmp_path: pathlib.Path, text: str, names: tuple[str, ...], numbers: dict[int, int] | None
) -> None:
    table = read(tmp_path, text)
    assert table.class_names == names
    assert table.numbers == (numbers or {7: 0, 8: 0, 2: 1, 11: 255, 255: 255})
    assert not table.by_color


@pytest.mark.parametrize(
    "text",
    [
        "64 128 64\tsky\n192,0,128, a tree\n0 0 0 Void\n",  # as CamVid's label_colors.txt
        "# label:color_rgb:parts:actions\nsky:64,128,64::\na tree:192,0,128::\nvoid:0,0,0::\n",
    ],
)
def test_colors(tmp_path: pathlib.Path, text: str) -> None:
    table = read(tmp_path, text)
    assert table.class_names == ("sky", "a tree")
    assert table.by_color
    assert table.class_colors == ("#408040", "#c00080")
    assert table.numbers[color_code((0, 0, 0))] == 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky\n\nhouse\n", r"two or more names in .*classes\.txt, .* got \['sky', '', 'house'\]"),
        ("sky\nsky\n", "a different one on each line"),
        ("", "two or more names"),
        ("0 sky\ntree\n", r"lines of one form .* got 'tree' beside '0 sky'"),
        ("0 0 9 sky\n5 tree\n", r"lines of one form .* got '0 0 9 sky'"),
        ("0 0 9\n0 9 9\n", "a color without a name"),
        ("0 sky\n0 tree\n", "a second line for 'tree'"),
        ("0 0 256 sky\n0 0 0 tree\n", r"colors of 0 \.\. 255 .* got '0 0 256 sky'"),
        ("0 void\n1 tree\n", r"two or more classes .* got \['tree'\]"),
        ("\n".join(f"class {k}" for k in range(256)), "at most 255 classes .* got 256"),
    ],
)
def test_errors_name_the_line(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_other_encodings_are_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "classes.txt").write_bytes("Straße\nHaus\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"UTF-8 in .*classes\.txt"):
        read_classes_file(tmp_path / "classes.txt")
