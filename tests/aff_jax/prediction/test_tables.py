"""The tables of predictions: what they have, and that an interruption loses nothing."""

import csv
import json
import os

import numpy as np
import pytest

from aff_jax.prediction import ClassPrediction, MaskPrediction
from aff_jax.prediction.tables import CSV_FILE, JSON_FILE, PredictionTables
from tests.aff_jax.prediction.networks import color_task

NAMES = ("red", "green", "blue")


def read(folder):
    with open(folder / CSV_FILE, newline="", encoding="utf-8") as file:
        return list(csv.reader(file)), json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))


def test_classes(tmp_path):
    prediction = ClassPrediction(NAMES, np.array([0.25, 0.5, 0.25], np.float32))
    with PredictionTables(tmp_path, color_task("classification"), "net", {}) as tables:
        tables.write_row({"image": "ä,b.jpg"}, prediction)
    rows, content = read(tmp_path)
    assert rows == [["image", "class", "probability"], ["ä,b.jpg", "green", "0.5"]]
    assert content == {
        "network": "net",
        "task": "classification",
        "classes": [{"name": name} for name in NAMES],
        "complete": True,
        "images": [
            {
                "image": "ä,b.jpg",
                "class": "green",
                "probability": 0.5,
                "probabilities": {"red": 0.25, "green": 0.5, "blue": 0.25},
            }
        ],
        "unreadable": [],
    }


def test_masks(tmp_path):
    prediction = MaskPrediction(NAMES, np.array([[0, 0, 1, 255]], np.uint8))
    task = color_task("segmentation", mask_values=(5, 6, 7), class_colors=("#ff0000",) * 3)
    files = {"image": "a.jpg", "mask": "masks/a.png", "overlay": "overlays/a.png"}
    with PredictionTables(tmp_path, task, "net", {}) as tables:
        tables.write_row(files, prediction)
    rows, content = read(tmp_path)
    assert rows[0] == ["image", "mask", "overlay", *(f"share of {name}" for name in NAMES)]
    assert rows[1] == [*files.values(), "0.5", "0.25", "0.0"]
    assert content["classes"][1] == {"name": "green", "mask_value": 6, "color": "#ff0000"}
    shares = {"red": 0.5, "green": 0.25, "blue": 0.0}
    assert content["images"] == [{**files, "shares": shares}]


def test_an_interruption_keeps_the_rows(tmp_path):
    prediction = ClassPrediction(NAMES, np.array([1, 0, 0], np.float32))
    unreadable = {}

    def write():
        with PredictionTables(tmp_path, color_task("classification"), "net", unreadable) as tables:
            tables.write_row({"image": "a.jpg"}, prediction)
            unreadable["b.jpg"] = "it is not an image"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    rows, content = read(tmp_path)
    assert (len(rows), len(content["images"]), content["complete"]) == (2, 1, False)
    assert content["unreadable"] == [{"image": "b.jpg", "reason": "it is not an image"}]


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    task = color_task("classification", class_names=(os.fsdecode(b"th\xe9"), "green", "blue"))
    prediction = ClassPrediction(task.class_names, np.array([1, 0, 0], np.float32))
    with PredictionTables(tmp_path, task, "net", {}) as tables:
        tables.write_row({"image": name}, prediction)
    assert r"caf\udce9.jpg,th\udce9,1.0" in (tmp_path / CSV_FILE).read_text(encoding="utf-8")
    content = json.loads((tmp_path / JSON_FILE).read_text())
    assert content["images"][0]["image"] == name
