"""Evaluate saved weights: a checkpoint of a run, or a file.

Nothing is written. Only the evaluated split of the dataset is needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from aff_jax.images.image_task import ImageTask
from aff_jax.lookup import look_up
from aff_jax.prediction.predictor import Predictor
from aff_jax.serialization import load
from train.config_checks import check_config
from train.data.pipeline import open_split, split_names
from train.data.sources.data_source import Source
from train.eval_loop import evaluate
from train.evaluation import make_evaluation
from train.model import expected_output_shape
from train.original_size import evaluate_in_original_size
from train.reporting.class_scores import ClassScores, class_scores
from train.reporting.metrics import TASK_METRICS
from train.saved_run import explain_fields_of_another_version, restore_network
from train.steps.parallel import PARALLEL
from train.steps.precision import DTYPES
from train.steps.state import TrainState

__all__ = ["EvaluationResult", "evaluate_checkpoint", "evaluate_weights"]


class EvaluationResult(NamedTuple):
    """The evaluation of saved weights.

    Attributes:
        step: Step of the checkpoint, or the one that the file names, or 0.
        metrics: The metrics of the task and the mean `loss`. There is no loss for an evaluation in
            the original size.
        scores: Scores of each class.
    """

    step: int
    metrics: dict[str, float]
    scores: ClassScores


def evaluate_checkpoint(
    workdir: Path,
    step: str = "best",
    *,
    split: str = "",
    data_dir: str | None = None,
    original_size: bool = False,
) -> EvaluationResult:
    """Evaluate a checkpoint on every example of a split, once each.

    Args:
        workdir: Directory of the run.
        step: "best", "last" or the number of a step.
        split: A split as TFDS names it; the run's evaluation split by default.
        data_dir: Data directory; the run's data directory by default.
        original_size: Whether to compare masks in the sizes of their images, see
            `train.original_size`.

    Returns:
        The metrics and the scores of each class.

    Raises:
        ValueError: If there is no such split, the checkpoint is damaged, or it does not match the
            config of the run.
        FileNotFoundError: If there is no such run, checkpoint or dataset.
    """
    network = restore_network(workdir, step, data_dir)
    config = network.config
    names = network.image_task.class_names
    with explain_fields_of_another_version(workdir):
        source = open_split(config, split or split_names(config).evaluation, names)
    if network.dataset:
        network.dataset.check_same_classes(source)
    if original_size:
        predictor = Predictor(network.model, network.variables, network.image_task)
        metrics, confusion = evaluate_in_original_size(predictor, source)
    else:
        metrics, confusion = _evaluate(
            config, network.model, network.variables, network.image_task, source
        )
    return _result(network.step, metrics, confusion, network.image_task)


def evaluate_weights(config: ConfigDict, weights: Path, split: str = "") -> EvaluationResult:
    """Evaluate the network of a file on every example of a split, once each.

    The config determines the dataset, its preprocessing and the batch size. The network comes from
    the file, with its own dtype. If the file has names of classes, the dataset must have the same
    names, and the same size and normalization of images.

    Args:
        config: The config.
        weights: File that `aff_jax.save` or `aff-jax convert` wrote.
        split: A split as TFDS names it; the evaluation split of the config by default.

    Returns:
        The metrics and the scores of each class.

    Raises:
        ValueError: If the config is invalid, the file is damaged, or the outputs of the
            network are not the classes of the dataset.
        FileNotFoundError: If there is no such file or dataset.
    """
    check_config(config)
    look_up(DTYPES, "dtype", config.dtype)
    saved = load(weights)
    source = open_split(config, split or split_names(config).evaluation)
    image_task = source.image_task
    own = saved.image_task
    if own is not None and own.class_names != image_task.class_names:
        raise ValueError(
            f"expected the classes of {weights}, {_first(own.class_names)}, got the classes of "
            f"dataset {config.dataset!r}, {_first(image_task.class_names)}. Choose the config of "
            f"the dataset that the network was trained with."
        )
    if own is not None:
        _check_preprocessing(weights, own, image_task)
    variables = {"batch_stats": {}, **saved.variables}
    _check_outputs(config, weights, saved.model, variables, source)
    step = saved.origin.get("step")
    step = step if isinstance(step, int) and 0 <= step < 2**31 else 0
    metrics, confusion = _evaluate(config, saved.model, variables, image_task, source)
    return _result(step, metrics, confusion, image_task)


def _evaluate(
    config: ConfigDict,
    model: nn.Module,
    variables: Mapping[str, Any],
    image_task: ImageTask,
    source: Source,
) -> tuple[dict[str, float], np.ndarray]:
    """Return metrics and confusion matrix, as `evaluate` does."""
    parallel = look_up(PARALLEL, "parallel", config.parallel)(None)
    state = TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=(),
    )
    evaluation = make_evaluation(config, model, image_task, source, parallel)
    return evaluate(evaluation, parallel.replicate(state))


def _result(
    step: int, metrics: dict[str, float], confusion: np.ndarray, image_task: ImageTask
) -> EvaluationResult:
    class_metrics = TASK_METRICS[image_task.task].class_metrics
    return EvaluationResult(
        step, metrics, class_scores(confusion, image_task.class_names, class_metrics)
    )


def _check_preprocessing(weights: Path, own: ImageTask, expected: ImageTask) -> None:
    """Check that the config resizes and normalizes images as the file says."""
    differs = [
        f"{name} {getattr(own, name)} in the file and {getattr(expected, name)} in the config"
        for name in ("input_shape", "mean", "std", "resize")
        if getattr(own, name) != getattr(expected, name)
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
    expected = expected_output_shape(source)
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
