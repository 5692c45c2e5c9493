"""Read `classes.txt`, which names the classes of masks and their values or colors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from train.data.sources.class_table import IGNORED_VALUE, MAX_CLASSES, ClassTable, color_code

__all__ = ["CLASSES_FILE", "IGNORED_NAMES", "read_classes_file"]

CLASSES_FILE = "classes.txt"
"""File with the classes, one per line."""

IGNORED_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled")
"""Names of a line whose pixels are ignored; `__ignore__` is one too. Their case is not compared."""

_LABELME_IGNORED = "__ignore__"
"""The name that labelme writes first in its labels.txt, for pixels with 255 in its masks."""

_BETWEEN = r"[\s,]+"
_VALUE = re.compile(rf"(\d+){_BETWEEN}(\S.*)")
_COLOR = re.compile(rf"(\d+){_BETWEEN}(\d+){_BETWEEN}(\d+){_BETWEEN}(\S.*)")
_LABELMAP = re.compile(r"([^:]+):(\d+),(\d+),(\d+)(?::.*)?")
"""A line of the labelmap.txt of CVAT: name:R,G,B:parts:actions."""

_FORMS = "'name', 'value name' or 'R G B name'"


def read_classes_file(path: Path) -> ClassTable:
    """Read the table of classes of masks.

    All lines have one of three forms::

        name            value 0 on the first line, 1 on the second ..
        value name      value of a gray mask, or index of a palette
        R G B name      color of an RGB, palette or gray mask

    Lines that start with `#` are comments. Classes are numbered in the order of the lines. Lines
    with a value or color that have the same name are one class. Names in `IGNORED_NAMES` are
    ignored pixels, and so is the value 255 unless it has a line. Lines of CVAT's `labelmap.txt`,
    `name:R,G,B::`, are read as well.

    Args:
        path: The file.

    Returns:
        The table.

    Raises:
        ValueError: If lines have different forms, or a name or a value occurs twice.
        FileNotFoundError: If there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected text in UTF-8 in {path}, got {error}. Save it again."
        ) from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    lines = [line for line in lines if not line.startswith("#")]
    rows = [_LABELMAP.sub(r"\2 \3 \4 \1", line) for line in lines if line]
    if rows and all(map(_COLOR.fullmatch, rows)):
        table = _color_table(path, rows)
    elif rows and all(map(_VALUE.fullmatch, rows)):
        table = _value_table(path, rows)
    else:
        if any(map(_VALUE.fullmatch, rows)):
            other = next(row for row in rows if not _VALUE.fullmatch(row))
            raise ValueError(
                f"expected lines of one form in {path}, {_FORMS}, got {other!r} beside "
                f"{next(filter(_VALUE.fullmatch, rows))!r}. A name may begin with a number only if "
                f"all lines begin with a value or a color."
            )
        table = _name_table(path, lines)
    if len(table.class_names) > MAX_CLASSES:
        raise ValueError(
            f"expected at most {MAX_CLASSES} classes in {path}, because labels are stored in 8 "
            f"bits and {IGNORED_VALUE} is ignored, got {len(table.class_names)}. Merge some of "
            f"them, with one name on several lines."
        )
    return table


def _name_table(path: Path, names: list[str]) -> ClassTable:
    if names and names[0] == _LABELME_IGNORED:
        del names[0]
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise ValueError(
            f"expected two or more names in {path}, a different one on each line, the first one "
            f"for mask value 0, got {names}."
        )
    return _make_table(path, list(enumerate(names)))


def _value_table(path: Path, rows: Sequence[str]) -> ClassTable:
    """Parse lines such as `7 road`."""
    pairs = []
    for match in filter(None, map(_VALUE.fullmatch, rows)):
        value, name = match.groups()
        if re.fullmatch(rf"\d+{_BETWEEN}\d+.*", name):
            raise ValueError(
                f"expected lines of one form in {path}, {_FORMS}, got {match[0]!r}. Either it is a "
                f"color without a name, or not all lines are colors."
            )
        pairs.append((int(value), name))
    return _make_table(path, pairs)


def _color_table(path: Path, rows: Sequence[str]) -> ClassTable:
    """Parse lines such as `128 64 128 road`."""
    pairs = []
    for match in filter(None, map(_COLOR.fullmatch, rows)):
        *color, name = match.groups()
        if max(map(int, color)) > 255:
            raise ValueError(f"expected colors of 0 .. 255 in {path}, got {match[0]!r}.")
        pairs.append((color_code(map(int, color)), name))
    return _make_table(path, pairs, by_color=True)


def _make_table(path: Path, pairs: list[tuple[int, str]], by_color: bool = False) -> ClassTable:
    """Number the names in the order of the lines; equal names are one class."""
    names: dict[str, int] = {}
    numbers: dict[int, int] = {}
    for value, name in pairs:
        if value in numbers:
            raise ValueError(
                f"expected each value or color on one line of {path}, got a second line for "
                f"{name!r}. Remove one of the two."
            )
        is_ignored = name.lower() in (*IGNORED_NAMES, _LABELME_IGNORED)
        numbers[value] = IGNORED_VALUE if is_ignored else names.setdefault(name, len(names))
    if not by_color:
        numbers.setdefault(IGNORED_VALUE, IGNORED_VALUE)
    if len(names) < 2:
        raise ValueError(
            f"expected two or more classes in {path} besides ignored ones, got {[*names]}."
        )
    return ClassTable(tuple(names), numbers, by_color)
