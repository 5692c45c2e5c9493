"""Plot curves, confusion matrix and predictions of a run, and compare variants."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from aff_jax.images.class_colors import IGNORED_COLOR
from aff_jax.images.image_task import ImageTask
from train.data.batch import IGNORED_LABEL
from train.reporting.class_scores import printable
from train.reporting.metrics import DISPLAY_NAMES

__all__ = [
    "EVAL_COLOR",
    "MAX_NAMED_CLASSES",
    "TRAIN_COLOR",
    "draw_classified",
    "draw_comparison",
    "draw_confusion",
    "draw_curves",
    "draw_predictions",
]

TRAIN_COLOR, EVAL_COLOR = "#0072B2", "#D55E00"
"""Blue and orange of the palette of Okabe and Ito, which is safe for color-blind readers."""

MAX_NAMED_CLASSES = 25
"""Largest number of class names that a plot has space for."""

_MAX_NAME_LENGTH = 24
"""Longer names are shortened, since they would leave no space for the plot."""


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path, eval_name: str = "test") -> None:
    """Plot the loss and the other metrics over the steps.

    Args:
        lines: Lines of metrics.jsonl.
        path: File to write.
        eval_name: Name of the evaluation split.
    """
    metrics = [name for name in DISPLAY_NAMES if any(name in line for line in lines)]
    metrics = metrics or ["accuracy"]
    width = 4.5 * (1 + len(metrics))
    figure, axes = plt.subplots(1, 1 + len(metrics), figsize=(width, 3.6), layout="constrained")
    losses: list[float] = []
    for axis, name in zip(axes, ("loss", *metrics), strict=True):
        scale = 100 if name in DISPLAY_NAMES else 1
        for kind, color, marker in (("train", TRAIN_COLOR, ""), ("eval", EVAL_COLOR, "o")):
            points = [
                (x["step"], scale * x[name]) for x in lines if x["kind"] == kind and name in x
            ]
            if points:
                steps, values = zip(*points, strict=True)
                losses += values if name == "loss" else []
                label = {"train": "training", "eval": eval_name}[kind]
                axis.plot(steps, values, color=color, marker=marker, markersize=4, label=label)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.set_ylabel(f"{DISPLAY_NAMES[name]}, %" if name in DISPLAY_NAMES else "loss, nats")
    if losses and 0 < 4 * min(losses) < max(losses):  # else few labels are inside of the axis
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_locator(NullLocator())
    if axes[-1].lines:
        axes[-1].legend(loc="lower right")
    _save(figure, path)


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Plot a confusion matrix: colors are percentages of the class, numbers are counts.

    If some counts have more digits than fit into a cell, all numbers are percentages.

    Args:
        confusion: Integers (classes, classes): number of labels of each class (rows) by predicted
            class (columns).
        class_names: Names of the classes. They are shown if there are few classes.
        path: File to write.
    """
    percents = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    classes = len(class_names)
    side = max(5.0, 1.5 + 0.3 * min(classes, MAX_NAMED_CLASSES))
    figure, axis = plt.subplots(figsize=(1.12 * side, side), layout="constrained")
    image = axis.imshow(percents, cmap="cividis", vmin=0, vmax=100)
    figure.colorbar(image, label="percent of the class")
    if classes <= MAX_NAMED_CLASSES:
        names = [_as_text(name) for name in class_names]
        upright = classes > 10 or classes * max(map(len, names)) > 40  # letters on the axis
        axis.set_xticks(range(classes), names, rotation=90 if upright else 0)
        axis.set_yticks(range(classes), names)
        counts_fit = confusion.max(initial=0) <= 9999
        axis.set_title(f"numbers: {'counts' if counts_fit else 'percent of the class'}", size=10)
        for row, column in np.argwhere(confusion):
            color = "black" if percents[row, column] > 50 else "white"
            percent = percents[row, column]
            percent_text = "<1" if percent < 0.5 else f"{percent:.0f}"
            text = str(confusion[row, column]) if counts_fit else percent_text
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("class")
    _save(figure, path)


def draw_predictions(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    task: ImageTask,
    path: Path,
) -> None:
    """Plot images above their masks and predictions, with a legend of the largest classes.

    Ignored pixels are white.

    Args:
        images: uint8 (count, height, width, channels), with one or three channels.
        labels: Integers (count, height, width).
        predictions: Integers (count, height, width).
        task: The classes and their colors.
        path: File to write.
    """
    count, (height, width) = len(images), labels.shape[1:]
    found, pixel_counts = np.unique(np.concatenate([labels, predictions]), return_counts=True)
    largest = found[np.argsort(-pixel_counts, kind="stable")][:MAX_NAMED_CLASSES]
    figure, axes = plt.subplots(
        3,
        count,
        # The legend needs its height too.
        figsize=(1.6 * count + 1.6, max(4.8 * height / width, 0.2 * len(largest) + 0.2)),
        layout="constrained",
        squeeze=False,
    )
    colors = {**dict(enumerate(task.class_colors)), IGNORED_LABEL: IGNORED_COLOR}
    for row, name in enumerate(("image", "mask", "prediction")):
        axes[row, 0].set_ylabel(name)
        for column, axis in enumerate(axes[row]):
            if name == "image":
                pixels = np.broadcast_to(images[column], (height, width, 3))
            else:
                classes = (labels if name == "mask" else predictions)[column]
                pixels = np.zeros((height, width, 3))
                for k in np.unique(classes).tolist():
                    pixels[classes == k] = to_rgb(colors[k])
            _show(axis, pixels)
    names = {**dict(enumerate(task.class_names)), IGNORED_LABEL: "ignored"}
    patches = [
        Patch(facecolor=colors[k], edgecolor="black", label=_as_text(names[k]))
        for k in sorted(largest.tolist())
    ]
    figure.legend(handles=patches, loc="outside right center", fontsize=8)
    _save(figure, path)


def draw_classified(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    task: ImageTask,
    path: Path,
) -> None:
    """Plot images with their class and, below it, a predicted class that is another one.

    Args:
        images: uint8 (count, height, width, channels), with one or three channels.
        labels: Integers (count,).
        predictions: Integers (count,).
        task: The classes.
        path: File to write.
    """
    count, height, width = images.shape[:3]
    columns = min(count, 3)
    rows = -(-count // columns)
    size = (2.4 * columns, rows * (2.2 * height / width + 0.6))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[count:]:
        axis.axis("off")
    for axis, image, label, prediction in zip(
        axes.flat, images, labels.tolist(), predictions.tolist(), strict=False
    ):
        _show(axis, np.broadcast_to(image, (height, width, 3)))
        right = label == prediction
        name = "ignored" if label == IGNORED_LABEL else _as_text(task.class_names[label])
        predicted = _as_text(task.class_names[prediction])
        text = "predicted correctly" if right else f"predicted: {predicted}"
        axis.set_title(f"{name}\n{text}", color=TRAIN_COLOR if right else EVAL_COLOR, size=8)
    _save(figure, path)


def draw_comparison(
    scores: Mapping[str, Sequence[float]],
    means: Mapping[str, float],
    metric: str,
    path: Path,
    *,
    differences: Mapping[str, tuple[float, float]] | None = None,
    baseline: str = "",
) -> None:
    """Plot one row per variant, with a dot for the score of each seed and a bar for their mean.

    Next to them are the differences to the baseline, if there are any, with their intervals.

    Args:
        scores: Scores in 0 .. 1 by the label of the variant, from top to bottom.
        means: Means of the variants that have one.
        metric: Name of the score, for the axis.
        path: File to write.
        differences: Mean difference to the baseline and half the width of its confidence interval,
            which may be NaN, by the label of the variant.
        baseline: Label of the baseline, for the axis.
    """
    height, columns = 1.2 + 0.32 * len(scores), 2 if differences else 1
    figure, all_axes = plt.subplots(
        1,
        columns,
        figsize=(3.2 + 3.2 * columns, height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    axis = all_axes[0, 0]
    for row, (label, values) in enumerate(scores.items()):
        if label in means:
            axis.plot(
                100 * means[label], row, "|", color=EVAL_COLOR, markersize=16, markeredgewidth=3
            )
        percents = [100 * value for value in values]
        axis.plot(percents, [row] * len(percents), "o", color=TRAIN_COLOR, alpha=0.6)
    axis.plot([], [], "o", color=TRAIN_COLOR, alpha=0.6, label="one seed")
    axis.plot([], [], "|", color=EVAL_COLOR, markersize=12, markeredgewidth=3, label="mean")
    axis.set_yticks(range(len(scores)), [_as_text(label) for label in scores])
    axis.set_ylim(len(scores) - 0.5, -0.5)
    axis.set_xlabel(f"test {metric}, %")
    axis.grid(axis="x", alpha=0.3)
    if differences:
        _draw_differences(all_axes[0, 1], [*scores], differences, baseline)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    _save(figure, path)


def _draw_differences(
    axis: Any,
    labels: Sequence[str],
    differences: Mapping[str, tuple[float, float]],
    baseline: str,
) -> None:
    for row, label in enumerate(labels):
        if label in differences:
            difference, half_width = (100 * value for value in differences[label])
            style = {"fmt": "|", "color": EVAL_COLOR, "markersize": 16, "markeredgewidth": 3}
            axis.errorbar(difference, row, xerr=np.nan_to_num(half_width), capsize=4, **style)
    axis.axvline(0, color="gray", linewidth=1)
    axis.set_xlabel(f"minus {_as_text(baseline)}, points (95 %)")
    axis.grid(axis="x", alpha=0.3)


def _show(axis: Any, pixels: np.ndarray) -> None:
    axis.imshow(pixels, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _as_text(name: str) -> str:
    r"""Return a text that matplotlib draws as the name is written.

    A `$` begins a formula in matplotlib, and `\$` is drawn as `$`.
    """
    return printable(name, _MAX_NAME_LENGTH).replace("$", r"\$")


def _save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, with one warning for all of matplotlib's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            figure.savefig(path, dpi=150, format="png")
        finally:
            plt.close(figure)
    if caught:  # one for each character that the font does not have
        more = f" (and {len(caught) - 1} more warnings)" if len(caught) > 1 else ""
        warnings.warn(f"matplotlib: {caught[0].message}{more}", stacklevel=3)
