"""The arrays in which two sets of named arrays differ, as lines and as an error."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "DifferentArraysError",
    "count_differences",
    "list_differences",
    "shorten_differences",
]

_MAX_LINES = 10
"""Number of lines of each kind in an error message, so that it fits on a screen.

Only these get a hint at the nearest name: each one is a slow search.
"""

_MIN_RATIO = 0.85
"""Smallest similarity of a nearest name. A typing error in `layer1.weight` has 0.92."""


class DifferentArraysError(ValueError):
    """Arrays are missing, unexpected, or of another shape or dtype.

    The message counts them, and lists the first ones of each kind.

        >>> import aff_jax, numpy as np
        >>> model = aff_jax.create_model("cifar_resnet8", num_classes=10)
        >>> try:
        ...     aff_jax.convert.from_torch({"stem.weight": np.zeros((16, 3, 5, 5))}, model)
        ... except aff_jax.differences.DifferentArraysError as error:
        ...     len(error.differences), error.differences[-1]
        (113, '  misshapen   stem.weight: (16, 3, 5, 5), expected (16, 3, 3, 3)')

    Attributes:
        differences: One line for each of the arrays, as `list_differences` returns them.
    """

    # Pickle calls the class with the message alone, and then sets the attribute.
    def __init__(self, problem: str, differences: Sequence[str] = (), advice: str = "") -> None:
        """Write the message.

        Args:
            problem: What does not match what. The numbers follow after a colon.
            differences: Lines of `list_differences`.
            advice: The likely cause, and what to do.
        """
        self.differences = list(differences)
        if differences:
            counts, lines = count_differences(differences), shorten_differences(differences)
            problem = f"{problem}: {counts}.\n{lines}\n{advice}"
        super().__init__(problem)


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
        f"  missing     {name} {_shape_and_dtype(expected[name])}{_hint(index, name, unexpected)}"
        for index, name in enumerate(missing)
    ]
    lines += [
        f"  unexpected  {name} {_shape_and_dtype(found[name])}{_hint(index, name, missing)}"
        for index, name in enumerate(unexpected)
    ]
    for name in expected:
        if name in found and (label := _compare(expected[name], found[name])):
            described = (
                f"{_shape_and_dtype(found[name])}, expected {_shape_and_dtype(expected[name])}"
            )
            lines.append(f"  {label:<11} {name}: {described}")
    return lines


def count_differences(lines: Sequence[str]) -> str:
    """Count the lines of `list_differences` by label, as in `2 missing, 1 misshapen`.

    Args:
        lines: Lines of `list_differences`, or lines that begin with other labels.

    Returns:
        The numbers in the order of the lines; an empty string for no lines.
    """
    counts = Counter(filter(None, map(_label, lines)))
    return ", ".join(f"{count} {label}" for label, count in counts.items())


def shorten_differences(lines: Sequence[str]) -> str:
    """Join the first lines of each label, and count the others.

    Args:
        lines: Lines of `list_differences`, or lines that begin with other labels.

    Returns:
        At most 11 lines of each label; the last one is of the form `  ... and 3 more missing`.
    """
    by_label: dict[str, list[str]] = {}
    for line in lines:
        by_label.setdefault(_label(line), []).append(line)
    shown: list[str] = []
    for label, same in by_label.items():
        shown += same[:_MAX_LINES]
        if len(same) > _MAX_LINES:
            shown.append(f"  ... and {len(same) - _MAX_LINES} more {label}".rstrip())
    return "\n".join(shown)


def _label(line: str) -> str:
    """Return the label that a line begins with, or an empty string."""
    match = re.match(r"\s*(wrong dtype|\w+)", line)
    return match[1] if match else ""


def _compare(expected: Any, found: Any) -> str:
    """Return the label of the difference, or an empty string."""
    if _shape(expected) != _shape(found):
        return "misshapen"
    if not (hasattr(expected, "dtype") and hasattr(found, "dtype")):
        return ""
    return "wrong dtype" if expected.dtype != found.dtype else ""


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", array))


def _shape_and_dtype(array: Any) -> str:
    return f"{_shape(array)} {array.dtype}" if hasattr(array, "dtype") else str(_shape(array))


def _hint(index: int, name: str, others: Sequence[str]) -> str:
    if index >= _MAX_LINES:
        return ""
    near = difflib.get_close_matches(name, others, n=1, cutoff=_MIN_RATIO)
    return f"   (nearest: {near[0]})" if near else ""
