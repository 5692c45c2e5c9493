"""Tables of predictions: CSV for spreadsheets, and JSON with more detail."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aff_jax.images.image_task import ImageTask
from aff_jax.prediction.drawing import cropped_value
from aff_jax.prediction.predictor import ClassPrediction, Prediction

__all__ = ["CSV_FILE", "JSON_FILE", "PredictionTables"]

CSV_FILE = "predictions.csv"
"""One row for each image."""

JSON_FILE = "predictions.json"
"""The same, with the probabilities of all classes and the images that could not be read."""


class PredictionTables:
    """The tables of one folder of predictions, as a context manager.

    Rows of `predictions.csv` are written as they come. `predictions.json` is written at the end,
    even if the end is an error or Ctrl-C. It then has `"complete": false`.

    Args:
        folder: The folder of the tables.
        image_task: The classes.
        network: Name of the network.
        unreadable: Reasons by path of the images that could not be read. It is read at the end.
    """

    def __init__(
        self, folder: Path, image_task: ImageTask, network: str, unreadable: Mapping[str, str]
    ) -> None:
        self._json_path, self._unreadable = folder / JSON_FILE, unreadable
        self._content: dict[str, Any] = {
            "network": network,
            "task": image_task.task,
            "classes": _describe_classes(image_task),
        }
        if image_task.task == "segmentation":
            self._content["cropped_value"] = cropped_value(image_task)
        self._rows: list[dict[str, Any]] = []
        # Names that are not UTF-8 are written with escapes, so that programs can read the table.
        self._file = open(  # noqa: SIM115 - closed in __exit__
            folder / CSV_FILE, "w", newline="", encoding="utf-8", errors="backslashreplace"
        )
        self._csv = csv.writer(self._file)
        if image_task.task == "segmentation":
            columns = ["mask", "overlay", *(f"share of {name}" for name in image_task.class_names)]
        else:
            columns = ["class", "probability"]
        self._csv.writerow(["image", *columns])

    def __enter__(self) -> PredictionTables:
        return self

    def write_row(self, files: Mapping[str, str], prediction: Prediction) -> None:
        """Write the prediction of one image.

        Args:
            files: Paths of the image and, for segmentation, of its mask and its overlay.
            prediction: What was predicted.
        """
        if isinstance(prediction, ClassPrediction):
            result = {"class": prediction.class_name, "probability": prediction.probability}
            self._csv.writerow([*files.values(), *result.values()])
            pairs = zip(prediction.class_names, prediction.probabilities.tolist(), strict=True)
            self._rows.append({**files, **result, "probabilities": dict(pairs)})
        else:
            self._csv.writerow([*files.values(), *prediction.shares.values()])
            self._rows.append({**files, "shares": prediction.shares})

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._file.close()
        unreadable = [{"image": x, "reason": reason} for x, reason in self._unreadable.items()]
        content = {
            **self._content,
            "complete": error is None,
            "images": self._rows,
            "unreadable": unreadable,
        }
        text = json.dumps(content, indent=2)
        self._json_path.write_text(text + "\n", encoding="utf-8")


def _describe_classes(image_task: ImageTask) -> list[dict[str, Any]]:
    if image_task.task == "classification":
        return [{"name": name} for name in image_task.class_names]
    rows = zip(image_task.class_names, image_task.mask_values, image_task.class_colors, strict=True)
    return [{"name": name, "mask_value": value, "color": color} for name, value, color in rows]
