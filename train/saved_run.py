"""Restore the network of a checkpoint of a run, or write its weights to a file.

These functions do not change the workdir, so the run may still be training.
"""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import aff_jax
from aff_jax.files.atomic_write import check_target
from aff_jax.images.image_task import ImageTask
from aff_jax.serialization import save
from train.checkpoints.reading import check_step, read_eval_variables
from train.data.pipeline import open_split
from train.data.sources.datasets import find_dataset
from train.model import make_model
from train.reporting.config_file import read_config
from train.reporting.dataset_file import DatasetRecord, read_dataset, unknown_classes
from train.reporting.metrics import TASK_METRICS

__all__ = [
    "SavedNetwork",
    "explain_fields_of_another_version",
    "restore_network",
    "save_model",
]


class SavedNetwork(NamedTuple):
    """The network of a checkpoint.

    Attributes:
        config: The config of the run.
        model: The network, with batch norm that is not synchronized.
        variables: The variables that are evaluated: the moving averages if the run has them, with
            the recalibrated statistics if the run has them.
        image_task: The images that the network reads, and the classes that it predicts.
        dataset: The record of the dataset that it was trained with; None if dataset.json was
            removed.
        step: Step of the checkpoint.
        metrics: Metrics of its evaluation; empty if it was not evaluated.
    """

    config: ConfigDict
    model: nn.Module
    variables: dict[str, Any]
    image_task: ImageTask
    dataset: DatasetRecord | None
    step: int
    metrics: dict[str, float]


def restore_network(workdir: Path, step: str = "best", data_dir: str | None = None) -> SavedNetwork:
    """Restore the network of a checkpoint.

    Args:
        workdir: Directory of the run.
        step: "best", "last" or the number of a step.
        data_dir: Data directory; the run's data directory by default. If dataset.json was removed,
            the classes come from the dataset there, with a warning.

    Returns:
        The network.

    Raises:
        ValueError: If the checkpoint is damaged, or does not match the config of the run.
        FileNotFoundError: If there is no such run or checkpoint.
    """
    check_step(step)
    config = read_config(workdir)
    if data_dir is not None:
        config.data_dir = data_dir
    config.sync_batch_norm = False
    with explain_fields_of_another_version(workdir):
        dataset = find_dataset(config.dataset)
        record = read_dataset(workdir)
        if record is None:
            image_task = open_split(config, dataset.train_split).image_task
            warnings.warn(unknown_classes(workdir, image_task.class_names), stacklevel=2)
        else:
            image_task = record.image_task
        model = make_model(config, image_task.num_classes)
    images = jnp.zeros((1, *image_task.input_shape))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    restored = read_eval_variables(
        workdir / "checkpoints",
        step,
        shapes,
        best_metric=f"eval_{TASK_METRICS[dataset.task].score_name}",
    )
    variables = {"batch_stats": {}, **restored.state}
    return SavedNetwork(
        config, model, variables, image_task, record, restored.step, restored.metrics
    )


@contextlib.contextmanager
def explain_fields_of_another_version(workdir: Path) -> Iterator[None]:
    """Explain errors about a field that the config of a run lacks.

    Args:
        workdir: Directory of the run.

    Yields:
        Nothing.

    Raises:
        ValueError: Instead of an `AttributeError` or a `KeyError`.
    """
    try:
        yield
    except (AttributeError, KeyError) as error:
        raise ValueError(
            f"the config.json of {workdir} was written by another version of this program "
            f"({error}). Evaluate it and save its model with the version that trained it. To train "
            f"with its weights, start a run here with --config.init_from and the saved file."
        ) from error


def save_model(
    workdir: Path,
    output: Path,
    step: str = "best",
    *,
    data_dir: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write the weights of a checkpoint and their model to a file for `aff_jax.load`.

    The weights are those that are evaluated, see `SavedNetwork`. The model has unsynchronized batch
    norm, so it can be trained without a mapped axis. The file also has the `ImageTask`, which
    preprocesses images and names the classes, and the config, step, metrics and versions as
    `origin`.

    Args:
        workdir: Directory of the run.
        output: The .safetensors file to write.
        step: "best", "last" or the number of a step.
        data_dir: TFDS data directory; the run's data directory by default.
        overwrite: Whether to replace an existing file.

    Returns:
        The step of the checkpoint.

    Raises:
        ValueError: If the checkpoint is damaged, or does not match the config of the run.
        FileNotFoundError: If there is no such run, checkpoint or dataset, or the directory of the
            file is missing.
        FileExistsError: If the file exists, and `overwrite` is False.
    """
    check_target(output, overwrite)
    network = restore_network(workdir, step, data_dir)
    save(
        output,
        network.variables,
        network.model,
        image_task=network.image_task,
        origin={
            "config": json.loads(network.config.to_json_best_effort()),
            "step": network.step,
            "metrics": network.metrics,
            "versions": {
                "aff_jax": aff_jax.__version__,
                "jax": jax.__version__,
                "flax": flax.__version__,
            },
        },
        overwrite=overwrite,
    )
    return network.step
