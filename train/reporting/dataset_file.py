"""The dataset of a run as dataset.json: what its network reads and predicts.

With this file a run can be exported, and can predict images, where its training data are not. It
also shows if the classes of a user's folder have changed since the run started.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from aff_jax.images import ImageTask
from train.data.sources.class_names import require_same_classes
from train.data.sources.data_source import Source
from train.reporting.config_file import read_fields
from train.runtime.writing import write_atomically

__all__ = ["DATASET_FILE", "DatasetRecord", "read_dataset", "record_dataset"]

DATASET_FILE = "dataset.json"
"""The dataset of the run."""


_ONLY_DRAWN = ("class_colors", "mask_values")


@dataclasses.dataclass(frozen=True)
class DatasetRecord:
    """What a run knows about its training split.

    Attributes:
        image_task: The images that its network reads, and the classes that it predicts.
        examples: Number of training examples when the run started.
    """

    image_task: ImageTask
    examples: int


def record_dataset(workdir: str | os.PathLike[str], source: Source) -> str:
    """Write the dataset of a run, or check that it is the one that the run started with.

    Args:
        workdir: Directory of the run.
        source: Training split.

    Returns:
        A warning if the number of examples has changed, else "".

    Raises:
        ValueError: If the classes, or how images are resized and normalized, are not those with
            which the run started. The message has the differences.
    """
    known = read_dataset(workdir)
    if known is None:
        content = {"image_task": source.image_task.to_json(), "examples": len(source)}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(Path(workdir) / DATASET_FILE, text)
        return ""
    require_same_classes(known.image_task.class_names, source.class_names, "the training split")
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


def read_dataset(workdir: str | os.PathLike[str]) -> DatasetRecord | None:
    """Read the dataset of a run.

    Args:
        workdir: Directory of the run.

    Returns:
        The record; None if an earlier version of this program started the run.

    Raises:
        ValueError: If its dataset.json is not readable.
    """
    path = Path(workdir) / DATASET_FILE
    if not path.exists():
        return None
    fields = read_fields(path)
    try:
        return DatasetRecord(ImageTask.from_json(fields["image_task"]), int(fields["examples"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}). Remove it; the next start of the run writes it again."
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
