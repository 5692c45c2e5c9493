"""dataset.json: what a run keeps of its dataset, and which changes it notices."""

import dataclasses
import json

import pytest

from aff_jax.images import ImageTask
from train.reporting.dataset_file import (
    DATASET_FILE,
    DatasetRecord,
    read_dataset,
    record_dataset,
)

TASK = ImageTask("classification", ("cat", "dog", "fox"), (8, 6), 1, (0.5,), (0.25,))


class Examples:
    """A source without images."""

    def __init__(self, count=5, mask_classes=None, **fields):
        self.mask_classes = mask_classes or {}
        self.image_task, self.count = dataclasses.replace(TASK, **fields), count
        self.class_names = self.image_task.class_names

    def __len__(self):
        return self.count


def test_the_record_is_read_as_it_was_written(tmp_path):
    assert read_dataset(tmp_path) is None
    assert record_dataset(tmp_path, Examples()) == ""
    assert read_dataset(tmp_path) == DatasetRecord(TASK, 5, {})
    before = (tmp_path / DATASET_FILE).read_bytes()
    assert record_dataset(tmp_path, Examples()) == ""
    assert (tmp_path / DATASET_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_names": ("cat", "fox", "dog")}, "'dog' was class 1 and is class 2"),
        ({"class_names": ("cat", "dog")}, "Missing: 'fox'"),
        ({"class_names": ("cat", "dog", "fox", "owl")}, "New: 'owl'"),
        ({"image_size": (8, 8)}, r"another dataset:\n  image_size: \[8, 6\] then, \[8, 8\] now"),
    ],
)
def test_another_dataset_is_refused_and_the_record_stays(tmp_path, fields, message):
    record_dataset(tmp_path, Examples())
    with pytest.raises(ValueError, match=message):
        record_dataset(tmp_path, Examples(**fields))
    assert read_dataset(tmp_path) == DatasetRecord(TASK, 5, {})


def test_other_colors_and_values_of_masks_are_allowed(tmp_path):
    record_dataset(tmp_path, Examples())
    changed = Examples(class_colors=("#ff0000", "#00ff00", "#0000ff"), mask_values=(3, 4, 5))
    assert record_dataset(tmp_path, changed) == ""


def test_other_values_of_masks_are_refused(tmp_path):
    """The names and their order are the same, and they mean other pixels."""
    record_dataset(tmp_path, Examples(mask_classes={"0": "cat", "7": "dog", "8": "fox"}))
    changed = Examples(mask_classes={"0": "cat", "8": "dog", "7": "fox"})
    with pytest.raises(ValueError, match="got others: 7 was 'dog' and is 'fox', 8 was 'fox'"):
        record_dataset(tmp_path, changed)
    with pytest.raises(ValueError, match="8 was 'fox' and is 'no class'"):
        read_dataset(tmp_path).check_same_classes(
            Examples(mask_classes={"0": "cat", "7": "dog", "9": "fox"})
        )


def test_a_run_that_resumes_without_a_record_is_warned(tmp_path):
    warning = record_dataset(tmp_path, Examples(), resumes=True)
    assert "taken from the dataset as it is now: cat, dog, fox" in warning
    assert record_dataset(tmp_path, Examples(), resumes=True) == ""


def test_another_number_of_examples_is_a_warning(tmp_path):
    record_dataset(tmp_path, Examples())
    warning = record_dataset(tmp_path, Examples(count=7))
    assert warning.startswith("The training split has 7 examples; it had 5 when the run started.")


@pytest.mark.parametrize("text", ["{}", '{"image_task": {"task": "sorting"}, "examples": 3}', "["])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / DATASET_FILE).write_text(text)
    with pytest.raises(ValueError, match=DATASET_FILE):
        read_dataset(tmp_path)


def test_a_record_without_new_fields_is_read(tmp_path):
    """Fields that are added later have defaults, so that older runs can be read."""
    fields = TASK.to_json()
    del fields["class_colors"], fields["mask_values"]
    (tmp_path / DATASET_FILE).write_text(
        json.dumps({"image_task": fields, "examples": 5, "mask_classes": {}})
    )
    assert read_dataset(tmp_path) == DatasetRecord(TASK, 5, {})
