"""Evaluation on a whole split: every example counts once, for any batch size."""

import jax
import numpy as np
import pytest

from train import setup
from train.data.augment.augmentation import normalize
from train.data.feed import TrainFeed
from train.data.sources.datasets import DATASETS
from train.eval_loop import evaluate, recalibrate
from train.setup import make_run


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_evaluation_counts_every_example_once(config, batch_size, devices, small_network):
    config.eval_batch_size = batch_size
    config.parallel = "pmap" if batch_size < 64 else "shard_map"
    run = make_run(config, jax.devices()[:devices])
    metrics, confusion = evaluate(run, run.state)
    examples = list(run.eval_source)
    images = np.stack([example["image"] for example in examples])
    labels = np.stack([example["label"] for example in examples])
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, np.asarray(run.predict(run.state, images))), 1)
    np.testing.assert_array_equal(confusion, expected)
    assert metrics["accuracy"] == np.trace(expected) / 360


def test_recalibration_changes_neither_the_feed_nor_the_weights(config, small_network):
    config.recalibration_batches = 3
    run = make_run(config, jax.devices()[:2])
    feed, untouched = (TrainFeed(run.train_source, batch_size=512, seed=0) for _ in range(2))
    next(feed)
    next(untouched)
    state = recalibrate(run, run.state, feed)
    np.testing.assert_array_equal(next(feed)["index"], next(untouched)["index"])
    assert state.params is run.state.params
    assert not np.array_equal(
        state.batch_stats["norm"]["mean"], run.state.batch_stats["norm"]["mean"]
    )
    config.recalibration_batches = 0
    run = make_run(config, jax.devices()[:2])
    assert recalibrate(run, run.state, feed) is run.state


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_evaluation_counts_every_pixel_once(scenes, batch_size):
    scenes.eval_batch_size = batch_size
    run = make_run(scenes)
    metrics, confusion = evaluate(run, run.state)
    examples = list(run.eval_source)
    row = DATASETS["digit_scenes"]
    images = normalize(np.stack([x["image"] for x in examples]), row.mean, row.std)
    logits = np.asarray(setup.make_model(scenes, 11).apply(run.state.variables, images))
    labels = np.stack([x["label"] for x in examples])
    expected = np.bincount(11 * labels.ravel() + logits.argmax(-1).ravel(), minlength=121).reshape(
        11, 11
    )
    # Rounding may change the larger of two nearly equal logits.
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion.sum(1), expected.sum(1))
    assert abs(confusion - expected).sum() <= 4
    assert metrics["pixel_accuracy"] == np.trace(confusion) / labels.size


def test_an_evaluation_without_labels_is_refused(scenes, monkeypatch):
    run = make_run(scenes)
    ignored = np.full((64, 64), 255, np.uint8)
    monkeypatch.setattr("train.data.sources.data_source.decode_mask", lambda *_: ignored)
    with pytest.raises(ValueError, match="masks that ignore every pixel"):
        evaluate(run, run.state)
