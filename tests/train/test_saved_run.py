"""Checkpoints of a finished run: evaluate them, and write their weights to a file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from train import start
from train.data.augment.augmentation import normalize
from train.data.sources.datasets import DATASETS
from train.reporting.run_report import read_metric_lines
from train.saved_evaluation import evaluate_checkpoint
from train.saved_run import save_model
from train.setup import make_run


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [False, True])
def test_evaluates_checkpoints_as_the_run_did_and_saves_the_same_weights(
    config, console, tmp_path, averaged
):
    run, file = tmp_path / "run", tmp_path / "digits.safetensors"
    if averaged:  # the evaluated weights are then not the trained ones
        config.ema_decay, config.recalibration_batches = 0.9, 1
    start.train(config, run, console)
    logged = {x["step"]: x for x in read_metric_lines(run) if x["kind"] == "eval"}
    best = max(logged, key=lambda step: (logged[step]["accuracy"], step))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    found = evaluate_checkpoint(run, "best")
    assert found.step == best
    assert found.metrics == {name: logged[best][name] for name in ("accuracy", "loss")}
    assert sum(scores["labels"] for scores in found.scores.values()) == 360
    half = evaluate_checkpoint(run, "last", split="test[:50%]")
    assert half.metrics["accuracy"] * 180 == pytest.approx(round(half.metrics["accuracy"] * 180))

    # The network of the file has the accuracy of the run.
    assert save_model(run, file, "last") == 14
    saved = aff_jax.load(file)
    model, variables = saved
    assert saved.origin["step"] == 14
    assert saved.origin["config"]["dataset"] == "digits"
    examples = list(make_run(config).eval_source)
    row = DATASETS["digits"]
    images = normalize(jnp.stack([x["image"] for x in examples]), row.mean, row.std)
    predictions = np.argmax(jax.jit(model.apply)(variables, images), axis=-1)
    # The file preprocesses images as training does, from the pixels.
    assert saved.image_task.class_names == tuple(map(str, range(10)))
    own = np.stack([saved.image_task.preprocess(x["image"]) for x in examples])
    np.testing.assert_allclose(own, images, atol=1e-6)  # of at most 2.7, rounded in float32
    labels = np.array([x["label"] for x in examples])
    # Rounding may change the larger of two nearly equal logits.
    assert abs(np.mean(predictions == labels) - logged[14]["accuracy"]) <= 1 / 360
    # Its batch norm is not synchronized, so it trains without a mapped axis.
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    jax.eval_shape(train, variables, images)
    with pytest.raises(FileExistsError):
        save_model(run, file, "last")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_file_is_checked_before_the_checkpoint_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory .*missing\. Create it first"):
        save_model(tmp_path / "no run", tmp_path / "missing" / "file.safetensors")
