"""The evaluation loop: metrics over the whole evaluation split."""

from collections.abc import Callable

import jax
import numpy as np

from train.data.batch import Batch
from train.data.feed import eval_feed
from train.data.feed_timeout import TimeoutFeed
from train.data.sources.data_source import Source
from train.evaluation import Evaluation
from train.setup import Run
from train.steps.recalibration import zero_moments
from train.steps.state import TrainState

__all__ = ["PLOTTED_EXAMPLES", "Examples", "evaluate", "predict_some", "recalibrate"]

Examples = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Images, labels and predictions of a few examples."""

PLOTTED_EXAMPLES = 6
"""Number of examples whose predictions are plotted."""


def recalibrate(run: Run, state: TrainState, feed: TimeoutFeed[Batch]) -> TrainState:
    """Recompute the running statistics of the evaluated weights, if the config asks for it.

    Training does not read running statistics, so the new ones replace the old ones in the state,
    and a checkpoint has the weights and statistics that were evaluated.

    Args:
        run: The run, whose config has the number `recalibration_batches`.
        state: The state to evaluate.
        feed: The training feed. The statistics are computed from its next batches. The position
            of the feed is restored.

    Returns:
        The state with the new statistics, or the state itself if there is nothing to do.
    """
    if run.recalibration_step is None:
        return state
    position = feed.get_state()
    moments = run.parallel.replicate(zero_moments(state.batch_stats))
    for _ in range(run.config.recalibration_batches):
        moments = run.recalibration_step((state, moments), next(feed))
    feed.set_state(position)
    if state.ema is None:
        return state.replace(batch_stats=moments.batch_stats)
    return state.replace(ema={**state.ema, "batch_stats": moments.batch_stats})


def evaluate(
    evaluation: Evaluation,
    state: TrainState,
    after_batch: Callable[[], object] = lambda: None,
    source: Source | None = None,
) -> tuple[dict[str, float], np.ndarray]:
    """Evaluate a state on every example of a split, once each.

    Args:
        evaluation: The evaluation; a `Run` is one.
        state: The state to evaluate.
        after_batch: Called after each batch. An exception in it ends the evaluation.
        source: The examples; by default those of the evaluation split of the config.

    Returns:
        A tuple of the metrics and the confusion matrix. The metrics are the task's metrics and
        `loss`, the mean over all labels in nats. The matrix is int64 `(classes, classes)`; its rows
        are labels and its columns are predictions.

    Raises:
        ValueError: If the split has no labels.
        FeedError: If no batch arrived in time.
        RuntimeError: If the feed did not have every example once. This is a defect of the code.
    """
    source = evaluation.eval_source if source is None else source
    loss, examples, confusion = 0.0, 0, np.zeros((), np.int64)
    feed = eval_feed(
        source,
        batch_size=evaluation.config.eval_batch_size,
        multiple_of=len(evaluation.parallel.local_devices),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=evaluation.config.data_workers,
    )
    with TimeoutFeed[Batch](feed, evaluation.config.data_timeout_seconds) as batches:
        for batch in batches:
            sums = jax.device_get(evaluation.eval_step(state, batch))
            loss += float(sums["loss"])
            examples += int(sums["examples"])
            confusion = confusion + sums["confusion"]
            after_batch()
    if examples != len(source):
        raise RuntimeError(f"evaluated {examples} of {len(source)} examples.")
    labels = int(confusion.sum())
    if not labels:
        raise ValueError(
            f"expected labels in the evaluation split of {evaluation.config.dataset!r}, got masks "
            f"that ignore every pixel. Probably they contain 255 instead of class numbers."
        )
    metrics = {name: metric(confusion) for name, metric in evaluation.task_metrics.metrics.items()}
    return {**metrics, "loss": loss / labels}, confusion


def predict_some(run: Run, state: TrainState) -> Examples:
    """Predict the classes of evaluation examples that are spread over the split, for a plot.

    Neighbors often have the same class or scene, so the examples are evenly spaced.

    Args:
        run: The run.
        state: The state to evaluate.

    Returns:
        A tuple of images, uint8 `(count, height, width, channels)`, labels, int32, and predictions,
        int32, both `(count, height, width)` for segmentation and `(count,)` for classification.
        The count is `PLOTTED_EXAMPLES`, or less for a smaller split.
    """
    count = min(PLOTTED_EXAMPLES, len(run.eval_source))
    positions = np.linspace(0, len(run.eval_source) - 1, count).round().astype(int).tolist()
    examples = [run.eval_source[position] for position in positions]
    images, labels = (np.stack([x[name] for x in examples]) for name in ("image", "label"))
    return images, labels, np.asarray(run.predict(state, images))
