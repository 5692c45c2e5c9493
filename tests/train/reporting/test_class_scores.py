"""Test the scores of each class, their table and their names."""

import json
import os

import numpy as np

from train.reporting.class_scores import class_scores, class_tags, format_class_scores, printable
from train.reporting.metrics import TASK_METRICS, class_precision, class_recall

CONFUSION = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])


def test_recall_and_precision_are_fractions_of_labels_and_predictions():
    np.testing.assert_allclose(class_recall(CONFUSION), [6 / 8, 3 / 4, np.nan])
    np.testing.assert_allclose(class_precision(CONFUSION), [6 / 7, 3 / 5, np.nan])


def test_scores_are_valid_json_with_null_where_there_is_none():
    scores = class_scores(CONFUSION, ["a", "b", "c"], TASK_METRICS["segmentation"].class_metrics)
    assert list(scores) == ["a", "b", "c"]
    assert scores["a"] == {"iou": 6 / 9, "recall": 0.75, "labels": 8}
    assert scores["c"] == {"iou": None, "recall": None, "labels": 0}
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_the_table_has_the_classes_in_their_order():
    names = ["b" * 12, "a\nb", "c"]
    table = format_class_scores(
        class_scores(CONFUSION, names, TASK_METRICS["classification"].class_metrics)
    )
    assert table == [
        "class           recall precision    labels",
        "bbbbbbbbbbbb    75.00%    85.71%         8",
        "a\\nb            75.00%    60.00%         4",
        "c                    -         -         0",
    ]


def test_the_table_of_many_classes_has_the_worst_ones_and_says_so():
    confusion = np.diag(np.arange(30)) + np.eye(30, k=1, dtype=int)
    names = [f"class {k}" for k in range(30)]
    scores = class_scores(confusion, names, TASK_METRICS["segmentation"].class_metrics)
    table = format_class_scores(scores, "summary.json")
    assert format_class_scores(scores)[-1].endswith("with the lowest IoU.")
    assert len(table) == 12
    assert [line.split("  ")[0] for line in table[1:-1]] == names[:10]
    assert table[-1] == (
        "These are the 10 classes of 30 with the lowest IoU; summary.json has all."
    )


def test_names_for_tensorboard_are_distinct_and_plain():
    names = ["a/b", "a b", os.fsdecode(b"caf\xe9"), "traffic-light"]
    assert class_tags(names) == ["0_a_b", "1_a_b", "2_caf_", "3_traffic-light"]
    assert class_tags(["x"] * 11)[3] == "03_x"


def test_printable_names_can_be_encoded():
    assert printable(os.fsdecode(b"caf\xe9\n")) == r"caf\udce9\n"
    assert printable("n" * 30) == "n" * 23 + "…"
