"""List the arrays in which two sets of named arrays differ, for error messages."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["count_differences", "list_differences"]

_MAX_HINTS = 20
"""Number of missing, and of unexpected, names that get a hint: each one is a slow search."""


def list_differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """List the arrays that are missing, unexpected, or of another shape or dtype.

    The lines are, in this order::

          missing     layer1.weight (8, 3)   (nearest: layer1.wieght)
          unexpected  layer1.wieght (8, 3)   (nearest: layer1.weight)
          misshapen   head.bias: (10,), expected (5,)
          wrong dtype head.weight: (5, 8) float16, expected (5, 8) float32

    Args:
        expected: Arrays by name. A value is a shape, or has a `shape` and a `dtype`.
        found: Arrays by name, described in the same way. Dtypes are compared where both values
            have one.

    Returns:
        One line per array that differs. The list is empty if all arrays agree.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    lines = [
        f"  missing     {name} {_describe(expected[name])}{_hint(index, name, unexpected)}"
        for index, name in enumerate(missing)
    ]
    lines += [
        f"  unexpected  {name} {_describe(found[name])}{_hint(index, name, missing)}"
        for index, name in enumerate(unexpected)
    ]
    for name in expected:
        if name in found and (label := _compare(expected[name], found[name])):
            described = f"{_describe(found[name])}, expected {_describe(expected[name])}"
            lines.append(f"  {label:<11} {name}: {described}")
    return lines


def count_differences(lines: Sequence[str]) -> str:
    """Count the lines of `list_differences` by label, as in `2 missing, 1 misshapen`.

    Args:
        lines: Lines of `list_differences`, or lines that begin with other labels.

    Returns:
        The numbers in the order of the lines; an empty string for no lines.
    """
    labels = (re.match(r"\s*(wrong dtype|\w+)", line) for line in lines)
    counts = Counter(label[1] for label in labels if label)
    return ", ".join(f"{count} {label}" for label, count in counts.items())


def _compare(expected: Any, found: Any) -> str:
    """Return the label of the difference, or an empty string."""
    if _shape(expected) != _shape(found):
        return "misshapen"
    if not (hasattr(expected, "dtype") and hasattr(found, "dtype")):
        return ""
    return "wrong dtype" if expected.dtype != found.dtype else ""


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", array))


def _describe(array: Any) -> str:
    return f"{_shape(array)} {array.dtype}" if hasattr(array, "dtype") else str(_shape(array))


def _hint(index: int, name: str, others: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.7) if index < _MAX_HINTS else []
    return f"   (nearest: {near[0]})" if near else ""
