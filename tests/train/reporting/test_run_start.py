"""Test what a run says before its first step."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from train.data.epochs import Epochs
from train.reporting.run_start import describe_start, describe_time


class Split(SimpleNamespace):
    def __len__(self):
        return self.count


def split(count, **fields):
    defaults = {
        "num_classes": 3,
        "class_names": ("road", "sign", "car"),
        "image_shape": (48, 64, 3),
        "label_shape": (48, 64),
        "class_counts": None,
        "ignored_pixels": [],
    }
    return Split(count=count, **{**defaults, **fields})


def describe(train, **changes):
    options = {"eval_name": "validation", "splits_note": "", "resize": "pad", **changes}
    return describe_start(train, split(101), split(23), Epochs(1000, 16, 4.0), **options)


def test_the_start_is_a_short_table():
    lines = describe(
        split(1000, class_counts=np.array([700, 1, 299]), ignored_pixels=["11", "255"])
    )
    assert lines == [
        "training    1,000 images of 3 classes",
        "validation    101 images of 3 classes",
        "test           23 images of 3 classes",
        "checkpoint  the validation split chooses the best one",
        "balance     most frequent road (70%), least frequent sign (0.1%) of the pixels",
        "ignored     pixels with the mask value 11, 255",
        "input       48 x 64 x 3 (height x width x channels); other images are padded to this "
        "shape",
        "steps       62.5 per epoch, 250 in 4 epochs",
    ]


def test_what_is_not_known_is_left_out():
    assert not any(line.startswith("balance") for line in describe(split(1000)))
    empty = split(1000, class_counts=np.zeros(3, int))
    assert not any(line.startswith("balance") for line in describe(empty))


def test_the_note_on_the_splits_is_printed():
    assert "checkpoint  as the folder says" in describe(split(9), splits_note="as the folder says")


@pytest.mark.parametrize(("seconds", "text"), [(90, "0:01:30"), (90_000, "1 day, 1:00:00")])
def test_the_time_has_a_length_and_an_end(seconds, text):
    line = describe_time(steps=seconds, batch_size=8, examples_per_second=8.0)
    assert line.startswith(f"The remaining {seconds:,} steps take about {text}, until 2")
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d, plus the evaluations\.$", line)
