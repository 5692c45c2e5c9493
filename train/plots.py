"""Pictures: a run's curves and confusion matrix, and many runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt

__all__ = ["draw_comparison", "draw_confusion", "draw_curves"]

# Blue and orange of Okabe and Ito's palette, which colour-blind readers tell apart.
TRAIN, EVAL = "#0072B2", "#D55E00"


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and accuracy in training and evaluation over steps, from the lines of metrics.jsonl."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, name, scale in ((axes[0], "loss", 1), (axes[1], "accuracy", 100)):
        for kind, color, marker in (("train", TRAIN, ""), ("eval", EVAL, "o")):
            points = [(x["step"], scale * x[name]) for x in lines if x["kind"] == kind]
            if points:
                steps, values = zip(*points, strict=True)
                label = {"train": "training", "eval": "test"}[kind]
                axis.plot(steps, values, color=color, marker=marker, markersize=4, label=label)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[0].set_ylabel("cross-entropy, nats")
    axes[1].set_ylabel("accuracy, %")
    if lines:
        axes[1].legend(loc="lower right")
    _save(figure, path)


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Shares of each class (rows) taken for each class (columns); counts where there is room."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    classes = len(class_names)
    named = classes <= 25
    figure, axis = plt.subplots(figsize=(5.6, 5.0), layout="constrained")
    image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the class")
    if named:
        axis.set_xticks(range(classes), class_names, rotation=90 if classes > 10 else 0)
        axis.set_yticks(range(classes), class_names)
        for row, column in np.argwhere(confusion):
            ink = "black" if shares[row, column] > 0.5 else "white"
            count = str(confusion[row, column])
            axis.text(column, row, count, ha="center", va="center", color=ink, fontsize=8)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("class")
    _save(figure, path)


def draw_comparison(
    accuracies: Mapping[str, Sequence[float]], means: Mapping[str, float], path: Path
) -> None:
    """A row a variant, from the top: a dot for each seed's accuracy, and a bar for the mean."""
    height = 1.2 + 0.32 * len(accuracies)
    figure, axis = plt.subplots(figsize=(6.4, height), layout="constrained")
    for row, (label, values) in enumerate(accuracies.items()):
        if label in means:
            axis.plot(100 * means[label], row, "|", color=EVAL, markersize=16, markeredgewidth=3)
        percents = [100 * value for value in values]
        axis.plot(percents, [row] * len(percents), "o", color=TRAIN, alpha=0.6)
    axis.plot([], [], "o", color=TRAIN, alpha=0.6, label="a seed")
    axis.plot([], [], "|", color=EVAL, markersize=12, markeredgewidth=3, label="mean")
    axis.set_yticks(range(len(accuracies)), list(accuracies))
    axis.set_ylim(len(accuracies) - 0.5, -0.5)
    axis.set_xlabel("test accuracy, %")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150)
    plt.close(figure)
