"""Checkpoints of a run and files of weights are evaluated on a dataset."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.images import ImageTask
from train import start
from train.saved_evaluation import evaluate_checkpoint, evaluate_weights
from train.setup import make_run

DIGITS = tuple(map(str, range(10)))


def save(path, channels=1, classes=10, names=None, mean=(0.3058,)):
    model = aff_jax.create_model("cifar_resnet8", "add", num_classes=classes)
    images = jnp.zeros((1, 8, 8, channels))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    task = names and ImageTask(
        "classification", names, (8, 8), channels=1, mean=mean, std=(0.3761,)
    )
    aff_jax.save(path, variables, model, image_task=task)
    return model, variables


@pytest.mark.parametrize("split", ["", "test[:50%]"])
def test_the_accuracy_is_that_of_the_predictions(config, tmp_path, split):
    model, variables = save(tmp_path / "net.safetensors")
    found = evaluate_weights(config, tmp_path / "net.safetensors", split)
    evaluation = make_run(config)
    examples = list(evaluation.eval_source)[: 180 if split else None]
    source = evaluation.eval_source
    images = np.stack([x["image"] for x in examples]) / np.float32(255)
    images = (images - np.float32(source.mean)) / np.float32(source.std)
    labels = np.array([x["label"] for x in examples])
    logits = np.asarray(jax.jit(model.apply)(variables, images), np.float64)
    # Rounding may change the larger of two nearly equal logits.
    expected = np.mean(logits.argmax(-1) == labels)
    assert abs(found.metrics["accuracy"] - expected) <= 1 / len(labels)
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]
    assert found.metrics["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert sum(scores["labels"] for scores in found.scores.values()) == len(labels)
    assert found.step == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 7}, r"outputs \(1, 10\).*got \(1, 7\)"),
        ({"channels": 3}, r"image \(8, 8, 1\) of 'digits', got \w+Error: .*--config.label_key"),
        (
            {"names": (*DIGITS[:9], "nine")},
            r"expected the classes of .*, got the classes of dataset",
        ),
        ({"names": DIGITS, "mean": (0.5,)}, r"another one: mean \(0\.5,\) in the file and \(0\.3"),
    ],
)
def test_another_dataset_is_an_error(config, tmp_path, fields, message):
    save(tmp_path / "net.safetensors", **fields)
    with pytest.raises(ValueError, match=message):
        evaluate_weights(config, tmp_path / "net.safetensors")


def test_a_file_with_the_preprocessing_of_the_dataset_is_evaluated(config, tmp_path):
    save(tmp_path / "net.safetensors", names=DIGITS)
    assert evaluate_weights(config, tmp_path / "net.safetensors").step == 0


def test_the_config_is_checked(config, tmp_path):
    config.eval_batch_size = 0
    with pytest.raises(ValueError, match="eval_batch_size"):
        evaluate_weights(config, tmp_path / "net.safetensors")


@pytest.mark.slow
def test_another_split_is_resized_as_the_config_of_the_run_says(config, console, tmp_path):
    config.image_size, config.image_channels = 6, 3
    config.epochs, config.warmup_epochs = 0.3, 0.0
    start.train(config, tmp_path / "run", console)
    found = evaluate_checkpoint(tmp_path / "run", "last", split="train[:10%]")
    assert found.metrics["accuracy"] * 144 == pytest.approx(round(found.metrics["accuracy"] * 144))


@pytest.mark.parametrize("field", ["model", "resize"])
def test_refuses_a_config_of_another_version(config, console, tmp_path, field):
    config.epochs, config.warmup_epochs = 0.3, 0.0
    start.train(config, tmp_path, console)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    del fields[field]
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"{field}.*with the version that trained it"):
        evaluate_checkpoint(tmp_path, "last")


def test_refuses_a_wrong_step_and_a_missing_run(tmp_path):
    with pytest.raises(ValueError, match="--step=best, --step=last or the number of a step, got"):
        evaluate_checkpoint(tmp_path, "bets")
    with pytest.raises(FileNotFoundError, match=r"has a config\.json; found no"):
        evaluate_checkpoint(tmp_path, "best")
