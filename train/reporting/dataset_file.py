"""The dataset of a run as dataset.json: what its network reads and predicts.

With this file, a run can save its model and predict images where its training data are not. It
also shows if the classes of a user's folder have changed since the run started.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aff_jax.images.image_folder import abbreviate
from aff_jax.images.image_task import ImageTask
from train.data.sources.data_source import Source
from train.data.sources.load import check_same_classes
from train.runtime.writing import write_atomically

__all__ = [
    "DATASET_FILE",
    "DatasetRecord",
    "read_dataset",
    "record_dataset",
    "unknown_classes",
]

DATASET_FILE = "dataset.json"
"""The dataset of the run."""


_ONLY_DRAWN = ("class_colors", "mask_values")
"""Fields that are only drawn with. `mask_classes` has the values and colors that mean a class."""


@dataclasses.dataclass(frozen=True)
class DatasetRecord:
    """The training split of a run: its preprocessing, its classes and its size.

    Attributes:
        image_task: The images that its network reads, and the classes that it predicts.
        examples: Number of training examples when the run started.
        mask_classes: Name of the class of each value or color of the masks, as
            `Source.mask_classes`.
    """

    image_task: ImageTask
    examples: int
    mask_classes: dict[str, str]

    def check_same_classes(self, source: Source) -> None:
        """Check that a split has the classes of the run, with the same values in masks.

        Args:
            source: A split of the dataset.

        Raises:
            ValueError: If it has not. The message has the differences.
        """
        check_same_classes(self.image_task.class_names, source.class_names, "the dataset")
        before, now = self.mask_classes, source.mask_classes
        changed = [
            f"{value} was {before.get(value, 'no class')!r} and is {now.get(value, 'no class')!r}"
            for value in {**before, **now}
            if before.get(value) != now.get(value)
        ]
        if changed:
            raise ValueError(
                f"expected masks with the values that this run was trained with, got others: "
                f"{abbreviate(changed)}. The classes have the same names, and labels would "
                f"belong to other classes. Probably classes.txt was changed: undo that, or train a "
                f"new run in another --workdir."
            )


def record_dataset(workdir: str | os.PathLike[str], source: Source, resumes: bool = False) -> str:
    """Write the dataset of a run, or check that it is the one that the run started with.

    Args:
        workdir: Directory of the run.
        source: Training split.
        resumes: Whether the run has checkpoints.

    Returns:
        A warning if the number of examples has changed, or the run resumes without a record; else
        "".

    Raises:
        ValueError: If the classes, or how images are resized and normalized, are not those with
            which the run started. The message has the differences.
    """
    known = read_dataset(workdir)
    if known is None:
        content = {
            "image_task": source.image_task.to_json(),
            "examples": len(source),
            "mask_classes": source.mask_classes,
        }
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(Path(workdir) / DATASET_FILE, text)
        return unknown_classes(workdir, source.class_names) if resumes else ""
    known.check_same_classes(source)
    lines = _differences(known.image_task, source.image_task)
    if lines:
        raise ValueError(
            f"workdir {os.fspath(workdir)} belongs to a run with another dataset:\n"
            + "\n".join(lines)
            + "\nProbably the images have changed since the run started. Restore them, or use "
            "another --workdir."
        )
    if known.examples != len(source):
        return (
            f"The training split has {len(source):,} examples; it had {known.examples:,} when the "
            f"run started. Epochs have other lengths from now on."
        )
    return ""


def unknown_classes(workdir: str | os.PathLike[str], class_names: Sequence[str]) -> str:
    """Return the warning about a run whose classes are read from the dataset of today.

    Args:
        workdir: Directory of the run.
        class_names: Names of the classes in the dataset.

    Returns:
        A sentence.
    """
    return (
        f"{os.fspath(workdir)} has no {DATASET_FILE}: the file was removed. Its classes are taken "
        f"from the dataset as it is now: {abbreviate(class_names)}. If they or their order have "
        f"changed, predictions have wrong names."
    )


def read_dataset(workdir: str | os.PathLike[str]) -> DatasetRecord | None:
    """Read the dataset of a run.

    Args:
        workdir: Directory of the run.

    Returns:
        The record; None if the file was removed.

    Raises:
        ValueError: If its dataset.json is not readable.
    """
    path = Path(workdir) / DATASET_FILE
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        image_task = ImageTask.from_json(fields["image_task"])
        return DatasetRecord(image_task, int(fields["examples"]), dict(fields["mask_classes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}). It has the classes of the run: restore it from a "
            f"copy. If there is none, remove it, and the classes are taken from the dataset as it "
            f"is now."
        ) from error


def _differences(known: ImageTask, found: ImageTask) -> list[str]:
    """List the fields in which two tasks differ, except those that do not matter to a network."""
    before, now = known.to_json(), found.to_json()
    return [
        f"  {name}: {_short(before[name])} then, {_short(now[name])} now"
        for name in before
        if name not in ("class_names", *_ONLY_DRAWN) and before[name] != now[name]
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else text[:200] + "..."
