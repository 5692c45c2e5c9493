"""Evaluation over a whole split: every example counts once, whatever the batch size."""

import numpy as np
import pytest

from train import run as run_module
from train.data.augment import normalize
from train.data.datasets import DATASETS
from train.evaluation import evaluate
from train.run import prepare


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_evaluation_counts_every_example_once(config, batch_size):
    config.eval_batch_size = batch_size
    run = prepare(config)
    metrics, confusion = evaluate(run, run.state)
    labels = [int(example["label"]) for example in run.eval_source]
    np.testing.assert_array_equal(confusion.sum(1), np.bincount(labels))
    assert metrics["accuracy"] == np.trace(confusion) / 360


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_evaluation_counts_every_pixel_once(scenes, batch_size):
    scenes.eval_batch_size = batch_size
    run = prepare(scenes)
    metrics, confusion = evaluate(run, run.state)
    examples = list(run.eval_source)
    row = DATASETS["digit_scenes"]
    images = normalize(np.stack([x["image"] for x in examples]), row.mean, row.std)
    logits = np.asarray(run_module.make_model(scenes, 11).apply(run.state.variables, images))
    labels = np.stack([x["label"] for x in examples])
    expected = np.bincount(11 * labels.ravel() + logits.argmax(-1).ravel(), minlength=121).reshape(
        11, 11
    )
    # A prediction may turn where two logits are equal to rounding.
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion.sum(1), expected.sum(1))
    assert abs(confusion - expected).sum() <= 4
    assert metrics["pixel_accuracy"] == np.trace(confusion) / labels.size


def test_an_evaluation_without_any_label_is_refused(scenes, monkeypatch):
    run = prepare(scenes)
    ignored = np.full((64, 64), 255, np.uint8)
    monkeypatch.setattr("train.data.source.decode_mask", lambda *_: ignored)
    with pytest.raises(ValueError, match="masks that ignore every pixel"):
        evaluate(run, run.state)
