"""Make the evaluation of a config: its step, its metrics and its examples."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from aff_jax.images.image_task import ImageTask
from train.data.augment.augmentation import normalize
from train.data.sources.data_source import Source
from train.reporting.metrics import TASK_METRICS, TaskMetrics
from train.steps.eval_step import EvalStep, make_eval_step
from train.steps.parallel import AXIS, Parallel
from train.steps.precision import DTYPES
from train.steps.state import TrainState

__all__ = ["Evaluation", "make_evaluation", "make_normalize"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation that a config describes.

    Attributes:
        config: The config.
        task_metrics: The metrics of the task.
        parallel: The devices, and how steps run on them.
        eval_step: Evaluation step on all devices.
        predict: Maps a state and uint8 images to predicted classes.
        eval_source: Evaluation split.
    """

    config: ConfigDict
    task_metrics: TaskMetrics
    parallel: Parallel
    eval_step: EvalStep
    predict: Callable[[TrainState, np.ndarray], Array]
    eval_source: Source


def make_evaluation(
    config: ConfigDict,
    model: nn.Module,
    image_task: ImageTask,
    eval_source: Source,
    parallel: Parallel,
) -> Evaluation:
    """Make the evaluation of a config, without its training data.

    Args:
        config: The config.
        model: The network.
        image_task: The images that the network reads.
        eval_source: Evaluation split.
        parallel: The devices, and how steps run on them.

    Returns:
        The evaluation.
    """
    normalize_images = make_normalize(config, image_task)
    return Evaluation(
        config=config,
        task_metrics=TASK_METRICS[image_task.task],
        parallel=parallel,
        eval_step=parallel.compile(make_eval_step(model, normalize_images, AXIS)),
        predict=_make_predict(model, normalize_images),
        eval_source=eval_source,
    )


def make_normalize(config: ConfigDict, image_task: ImageTask) -> Callable[..., Array]:
    """Make the function that normalizes a batch of uint8 images.

    Args:
        config: The config, which has the dtype.
        image_task: The images that the network reads.

    Returns:
        `normalize` with the mean and the standard deviation of the dataset.
    """
    return partial(normalize, mean=image_task.mean, std=image_task.std, dtype=DTYPES[config.dtype])


def _make_predict(
    model: nn.Module, normalize_images: Callable[[Array], Array]
) -> Callable[[TrainState, np.ndarray], Array]:
    @jax.jit
    def predict(state: TrainState, images: Array) -> Array:
        logits = cast(Array, model.apply(state.eval_variables, normalize_images(images)))
        return jnp.argmax(logits, axis=-1)

    return predict
