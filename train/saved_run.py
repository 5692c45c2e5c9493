"""Evaluate a checkpoint of a run, or write its weights to a file.

These functions do not change the workdir, so the run may still be training.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import flax
import jax

import aff_jax
from train.checkpoints.reading import Restored, check_step, read_checkpoint
from train.data.pipeline import open_split
from train.eval_loop import evaluate
from train.model import make_model
from train.reporting.config_file import read_config
from train.setup import Run, prepare
from train.steps.state import TrainState

__all__ = ["evaluate_checkpoint", "export_checkpoint", "open_run"]


def open_run(
    workdir: Path, step: str = "best", data_dir: str | None = None, **changes: Any
) -> tuple[Run, Restored[TrainState]]:
    """Make the run of a workdir, and restore one of its checkpoints.

    Args:
        workdir: Directory of the run.
        step: "best", "last" or the number of a step.
        data_dir: TFDS data directory, if other than that of the run.
        **changes: Config fields with new values.

    Returns:
        A tuple of the run and the checkpoint.

    Raises:
        ValueError: If the checkpoint is damaged, or does not match the config of the run.
        FileNotFoundError: If there is no such run, checkpoint or dataset.
    """
    check_step(step)
    config = read_config(workdir)
    if data_dir is not None:
        config.data_dir = data_dir
    config.update(changes)
    try:
        run = prepare(config, from_checkpoint=True)
    except (AttributeError, KeyError) as error:
        raise ValueError(
            f"the config.json of {workdir} was written by another version of this program "
            f"({error})."
        ) from error
    best_metric = f"eval_{run.task.score}"
    return run, read_checkpoint(workdir / "checkpoints", step, run.state, best_metric=best_metric)


def evaluate_checkpoint(
    workdir: Path, step: str = "best", *, split: str = "", data_dir: str | None = None
) -> dict[str, float]:
    """Evaluate a checkpoint on every example of a split, once each.

    Args:
        workdir: Directory of the run.
        step: "best", "last" or the number of a step.
        split: A split as TFDS names it; the run's evaluation split by default.
        data_dir: TFDS data directory, if other than that of the run.

    Returns:
        The metrics of the task, the mean `loss`, and the `step` of the checkpoint.

    Raises:
        ValueError: If there is no such split, the checkpoint is damaged, or it does not match the
            config of the run.
        FileNotFoundError: If there is no such run, checkpoint or dataset.
    """
    run, restored = open_run(workdir, step, data_dir)
    if split:
        run = dataclasses.replace(run, eval_source=open_split(run.config, split))
    metrics, _ = evaluate(run, restored.state)
    return {**metrics, "step": restored.step}


def export_checkpoint(
    workdir: Path,
    output: Path,
    step: str = "best",
    *,
    data_dir: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write the weights of a checkpoint and their model to a file for `aff_jax.load`.

    The weights are those that are evaluated: the moving averages if the run has them, with the
    recalibrated statistics if the run has them. The model has unsynchronized batch norm, so it can
    be trained without a mapped axis. The file also has the `ImageTask`, which preprocesses images
    and names the classes, and the config, step, metrics and versions as `origin`.

    Args:
        workdir: Directory of the run.
        output: The .safetensors file to write.
        step: "best", "last" or the number of a step.
        data_dir: TFDS data directory, if other than that of the run.
        overwrite: Whether to replace an existing file.

    Returns:
        The step of the checkpoint.

    Raises:
        ValueError: If the checkpoint is damaged, or does not match the config of the run.
        FileNotFoundError: If there is no such run, checkpoint or dataset.
        FileExistsError: If the file exists, and `overwrite` is False.
    """
    run, restored = open_run(workdir, step, data_dir, sync_batch_norm=False)
    model = make_model(run.config, run.train_source.num_classes)
    aff_jax.save(
        output,
        restored.state.eval_variables,
        model,
        image_task=run.train_source.image_task,
        origin={
            "config": json.loads(run.config.to_json_best_effort()),
            "step": restored.step,
            "metrics": restored.metrics,
            "versions": {
                "aff_jax": aff_jax.__version__,
                "jax": jax.__version__,
                "flax": flax.__version__,
            },
        },
        overwrite=overwrite,
    )
    return restored.step
