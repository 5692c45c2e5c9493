"""Evaluate a file of weights on a dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from aff_jax.images.image_task import ImageTask
from aff_jax.lookup import look_up
from aff_jax.serialization import load
from train.config_checks import check_config
from train.data.pipeline import open_split, split_names
from train.data.sources.data_source import Source
from train.eval_loop import evaluate
from train.evaluation import make_evaluation
from train.reporting.class_scores import class_scores
from train.reporting.metrics import TASK_METRICS
from train.saved_run import EvaluatedCheckpoint
from train.steps.parallel import PARALLEL
from train.steps.precision import DTYPES
from train.steps.state import TrainState

__all__ = ["evaluate_weights"]


def evaluate_weights(config: ConfigDict, weights: Path, split: str = "") -> EvaluatedCheckpoint:
    """Evaluate the network of a file on every example of a split, once each.

    The dataset, its preprocessing and the batch size are those of the config. The network is that
    of the file, with its own dtype. If the file has the names of classes, those of the dataset must
    be the same, and so must its size and normalization of images.

    Args:
        config: The config.
        weights: File that `aff_jax.save` or `aff-jax convert` wrote.
        split: A split as TFDS names it; the evaluation split of the config by default.

    Returns:
        The metrics and the scores of each class, with the step that the file names, or 0.

    Raises:
        ValueError: If the config is invalid, the file is damaged, or the outputs of the
            network are not the classes of the dataset.
        FileNotFoundError: If there is no such file or dataset.
    """
    check_config(config)
    look_up(DTYPES, "dtype", config.dtype)
    saved = load(weights)
    source = open_split(config, split or split_names(config).evaluation)
    task = source.image_task
    own = saved.image_task
    if own is not None and own.class_names != task.class_names:
        raise ValueError(
            f"expected the classes of {weights}, {_first(own.class_names)}, got those of the "
            f"dataset {config.dataset!r}, {_first(task.class_names)}. Choose the config of the "
            f"dataset that the network was trained with."
        )
    if own is not None:
        _check_preprocessing(weights, own, task)
    variables = {"batch_stats": {}, **saved.variables}
    _check_outputs(config, weights, saved.model, variables, source)
    parallel = look_up(PARALLEL, "parallel", config.parallel)(None)
    evaluation = make_evaluation(config, saved.model, task, source, parallel)
    step = saved.origin.get("step")
    step = step if isinstance(step, int) and 0 <= step < 2**31 else 0
    state = TrainState(
        step=jnp.int32(step),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=(),
    )
    metrics, confusion = evaluate(evaluation, parallel.replicate(state))
    scores = class_scores(confusion, task.class_names, TASK_METRICS[task.task].class_metrics)
    return EvaluatedCheckpoint(step, metrics, scores)


def _check_preprocessing(weights: Path, own: ImageTask, task: ImageTask) -> None:
    """Check that the config resizes and normalizes images as the file says."""
    differs = [
        f"{name} {getattr(own, name)} in the file and {getattr(task, name)} in the config"
        for name in ("input_shape", "mean", "std", "resize")
        if getattr(own, name) != getattr(task, name)
    ]
    if differs:
        raise ValueError(
            f"expected the preprocessing of {weights}, got another one: {'; '.join(differs)}. Set "
            f"--config.image_size to the size of the file, or choose the config that the network "
            f"was trained with; `aff-jax predict` preprocesses images as the file says."
        )


def _check_outputs(
    config: ConfigDict,
    weights: Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    source: Source,
) -> None:
    """Check that the network takes the images of the dataset and has an output for each class."""
    image = jax.ShapeDtypeStruct((1, *source.image_shape), jnp.float32)
    expected = (1, *source.label_shape, source.num_classes)
    try:
        found: Any = jax.eval_shape(model.apply, variables, image).shape
    except Exception as error:  # flax raises errors of its own for other channels
        found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if found != expected:
        raise ValueError(
            f"expected a network with outputs {expected} for an image {source.image_shape} of "
            f"{config.dataset!r}, got {found} from {weights}. Choose the config of the dataset "
            f"that the network was trained with; --config.label_key=coarse_label selects the 20 "
            f"superclasses of CIFAR-100."
        )


def _first(names: tuple[str, ...]) -> str:
    """List the first names, and how many there are."""
    more = f", ... ({len(names)})" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
