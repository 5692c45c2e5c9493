"""Describe a run before its first step: its images, classes, sizes and steps."""

import time
from datetime import timedelta

from aff_jax.images.image_folder import abbreviate
from train.data.epochs import Epochs
from train.data.sources.data_source import Source
from train.reporting.class_scores import printable

__all__ = ["describe_start", "describe_time"]

_RESIZED = {
    "": "all images have this size",
    "crop": "other images are cropped to this shape",
    "pad": "other images are padded to this shape",
    "stretch": "other images are stretched to this shape",
}


def describe_start(
    train: Source,
    evaluation: Source,
    test: Source | None,
    epochs: Epochs,
    *,
    eval_name: str,
    splits_note: str,
    resize: str,
) -> list[str]:
    """Describe the data and the length of a run.

    Args:
        train: Training split.
        evaluation: Evaluation split.
        test: Test split, if there is another one.
        epochs: Conversion between epochs and steps.
        eval_name: Name of the evaluation split.
        splits_note: Which split chooses the best checkpoint; "" says that the evaluation split
            does.
        resize: How images are resized; "" if they are not.

    Returns:
        Lines of two columns.
    """
    splits = {"training": train, eval_name: evaluation, **({"test": test} if test else {})}
    digits = max(len(f"{len(source):,}") for source in splits.values())
    rows = [
        (name, f"{len(source):>{digits},} images of {source.num_classes} classes")
        for name, source in splits.items()
    ]
    rows.append(("checkpoint", splits_note or f"the {eval_name} split chooses the best one"))
    if balance := _balance(train):
        rows.append(("balance", balance))
    if train.ignored_pixels:
        values = abbreviate(train.ignored_pixels)
        rows.append(("ignored", f"pixels with the mask value {values}"))
    height, width, channels = train.image_shape
    size = f"{height} x {width} x {channels} (height x width x channels); {_RESIZED[resize]}"
    rows.append(("input", size))
    per_epoch = epochs.examples / epochs.batch_size
    rows.append(
        ("steps", f"{per_epoch:,.4g} per epoch, {epochs.total_steps:,} in {epochs.total:g} epochs")
    )
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def describe_time(steps: int, batch_size: int, examples_per_second: float) -> str:
    """Describe how long the remaining steps take.

    Args:
        steps: Number of remaining steps.
        batch_size: Number of examples per step.
        examples_per_second: The measured speed.

    Returns:
        A line with the time and its end.
    """
    seconds = steps * batch_size / examples_per_second
    end = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + seconds))
    return (
        f"The remaining {steps:,} steps take about {timedelta(seconds=round(seconds))}, until "
        f"{end}, plus the evaluations."
    )


def _balance(source: Source) -> str:
    """Describe the most and the least frequent class, or return "" if they are not counted."""
    counts = source.class_counts
    if counts is None or not counts.sum():
        return ""
    shares = counts / counts.sum()
    most, least = (
        f"{printable(source.class_names[index])} ({100 * shares[index]:.3g}%)"
        for index in (int(shares.argmax()), int(shares.argmin()))
    )
    unit = "pixels" if source.label_shape else "images"
    return f"most frequent {most}, least frequent {least} of the {unit}"
