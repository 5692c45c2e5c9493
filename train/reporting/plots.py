"""Pictures: a run's curves, confusion matrix and predictions, and many runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from train.data.labels import IGNORE_LABEL
from train.reporting.tasks import WORDS

__all__ = ["draw_comparison", "draw_confusion", "draw_curves", "draw_predictions"]

# Blue and orange of Okabe and Ito's palette, which colour-blind readers tell apart.
TRAIN, EVAL = "#0072B2", "#D55E00"
# Ten colours chosen to be told apart also with colour vision deficiencies: M. A. Petroff,
# Accessible Color Sequences for Data Visualization, 2021, arXiv 2107.02270.
CLASSES = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
# Classes that the legend of a figure of masks has room for.
NAMED = 25
BACKGROUND, IGNORED = "#000000", "#ffffff"


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and shares in training and evaluation over steps, from the lines of metrics.jsonl."""
    shares = [name for name in WORDS if any(name in line for line in lines)] or ["accuracy"]
    width = 4.5 * (1 + len(shares))
    figure, axes = plt.subplots(1, 1 + len(shares), figsize=(width, 3.6), layout="constrained")
    for axis, name in zip(axes, ("loss", *shares), strict=True):
        scale = 100 if name in WORDS else 1
        for kind, color, marker in (("train", TRAIN, ""), ("eval", EVAL, "o")):
            points = [
                (x["step"], scale * x[name]) for x in lines if x["kind"] == kind and name in x
            ]
            if points:
                steps, values = zip(*points, strict=True)
                label = {"train": "training", "eval": "test"}[kind]
                axis.plot(steps, values, color=color, marker=marker, markersize=4, label=label)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.set_ylabel(f"{WORDS[name]}, %" if name in WORDS else "cross-entropy, nats")
    axes[0].set_yscale("log")
    if lines:
        axes[-1].legend(loc="lower right")
    _save(figure, path)


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Shares of each class (rows) taken for each class (columns); counts of up to four digits."""
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
            if len(count) > 4:  # there is no room for more digits, so it is a percentage
                count = f"{100 * shares[row, column]:.0f}%"
            axis.text(column, row, count, ha="center", va="center", color=ink, fontsize=8)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("class")
    _save(figure, path)


def draw_predictions(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Images above their masks and what was predicted, with a legend of the largest classes.

    `images` are uint8 (count, height, width, channels), `labels` and `predictions` integers (count,
    height, width). Class 0 is black, ignored pixels are white; the others have ten colours, which
    come again where there are more of them.
    """
    count, (height, width) = len(images), labels.shape[1:]
    figure, axes = plt.subplots(
        3,
        count,
        figsize=(1.6 * count + 1.6, 4.8 * height / width),
        layout="constrained",
        squeeze=False,
    )
    found, pixels_of = np.unique(np.concatenate([labels, predictions]), return_counts=True)
    # In the order of their numbers, those that have the most pixels, as many as there is room for.
    named = sorted(found[np.argsort(-pixels_of, kind="stable")][:NAMED].tolist())
    found = found.tolist()
    colors = {k: CLASSES[(k - 1) % len(CLASSES)] for k in found} | {0: BACKGROUND}
    colors[IGNORE_LABEL] = IGNORED
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
            axis.imshow(pixels, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
    names = {**dict(enumerate(class_names)), IGNORE_LABEL: "ignored"}
    patches = [Patch(facecolor=colors[k], edgecolor="black", label=names[k]) for k in named]
    figure.legend(handles=patches, loc="outside right center", fontsize=8)
    _save(figure, path)


def draw_comparison(
    shares: Mapping[str, Sequence[float]], means: Mapping[str, float], metric: str, path: Path
) -> None:
    """A row a variant, from the top: a dot for each seed's share, and a bar for the mean."""
    height = 1.2 + 0.32 * len(shares)
    figure, axis = plt.subplots(figsize=(6.4, height), layout="constrained")
    for row, (label, values) in enumerate(shares.items()):
        if label in means:
            axis.plot(100 * means[label], row, "|", color=EVAL, markersize=16, markeredgewidth=3)
        percents = [100 * value for value in values]
        axis.plot(percents, [row] * len(percents), "o", color=TRAIN, alpha=0.6)
    axis.plot([], [], "o", color=TRAIN, alpha=0.6, label="a seed")
    axis.plot([], [], "|", color=EVAL, markersize=12, markeredgewidth=3, label="mean")
    axis.set_yticks(range(len(shares)), list(shares))
    axis.set_ylim(len(shares) - 0.5, -0.5)
    axis.set_xlabel(f"test {metric}, %")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150)
    plt.close(figure)
