"""Scores of each class: as numbers for files, and as a table for the screen."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from train.reporting.metrics import DISPLAY_NAMES, ConfusionMatrix

__all__ = [
    "MAX_ROWS",
    "WORST_ROWS",
    "ClassScores",
    "class_scores",
    "class_tags",
    "format_class_scores",
    "printable",
]

ClassScores = dict[str, dict[str, float | int | None]]
"""Scores by the name of the class: each metric, or None where it is not defined, and `labels`."""

MAX_ROWS = 25
"""Largest number of classes that the table has rows for."""

WORST_ROWS = 10
"""Number of rows for more classes."""


def class_scores(
    confusion: ConfusionMatrix,
    class_names: Sequence[str],
    metrics: Mapping[str, Callable[[ConfusionMatrix], np.ndarray]],
) -> ClassScores:
    """Compute the scores of each class.

    Args:
        confusion: Confusion matrix, `(classes, classes)`.
        class_names: Names of the classes.
        metrics: Metrics by name. Each returns one number per class, NaN where it is not defined.

    Returns:
        Scores by class, in the order of the classes, with the number of `labels` of the class.
    """
    columns = {name: metric(confusion).tolist() for name, metric in metrics.items()}
    return {
        class_name: {
            **{
                name: None if math.isnan(values[index]) else values[index]
                for name, values in columns.items()
            },
            "labels": int(confusion[index].sum()),
        }
        for index, class_name in enumerate(class_names)
    }


def format_class_scores(scores: ClassScores, file: str = "") -> list[str]:
    """Format scores as a table with one row per class.

    Args:
        scores: Scores from `class_scores`.
        file: Name of the file that has the scores of all classes, if there is one.

    Returns:
        Lines: a head, and the classes in their order; if there are more than `MAX_ROWS`, the worst
        `WORST_ROWS` by the first metric, and a line that says so.
    """
    rows, note = list(scores.items()), []
    metrics = [name for name in rows[0][1] if name != "labels"]
    if len(rows) > MAX_ROWS:
        # A class that is neither labeled nor predicted has no score.
        scored = [row for row in rows if row[1][metrics[0]] is not None]
        rows = sorted(scored, key=lambda row: row[1][metrics[0]] or 0.0)[:WORST_ROWS]
        title = DISPLAY_NAMES[metrics[0]]
        note = [
            f"These are the {len(rows)} classes of {len(scores)} with the lowest {title}"
            + (f"; {file} has all." if file else ".")
        ]
    width = max(5, *(len(printable(name)) for name, _ in rows)) if rows else 5
    heads = [f"{head:>10}" for head in (*(DISPLAY_NAMES[name] for name in metrics), "labels")]
    lines = [f"{'class':<{width}}" + "".join(heads)]
    for name, values in rows:
        cells = [f"{_percent(values[metric]):>10}" for metric in metrics]
        lines.append(f"{printable(name):<{width}}" + "".join(cells) + f"{values['labels']:>10,}")
    return lines + note


def class_tags(class_names: Sequence[str]) -> list[str]:
    """Return a name of each class for TensorBoard, which groups by `/` and replaces characters.

    Args:
        class_names: Names of the classes.

    Returns:
        The number of the class and its name, with `_` for characters other than letters, digits,
        `.` and `-`, such as `03_traffic_light`. No two are equal.
    """
    digits = len(str(len(class_names) - 1))
    return [
        f"{index:0{digits}}_{re.sub('[^A-Za-z0-9.-]', '_', name)}"
        for index, name in enumerate(class_names)
    ]


def printable(name: str, max_length: int = 24) -> str:
    """Return a name that a terminal and a plot can show.

    Args:
        name: Name of a class. It may be the name of a folder that is not UTF-8.
        max_length: Longer names are shortened.

    Returns:
        The name, with escapes for characters that cannot be printed.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return shown if len(shown) <= max_length else shown[: max_length - 1] + "…"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}%"
