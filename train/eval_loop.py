"""A network's answers to the whole evaluation split, every example once."""

from collections.abc import Callable

import jax
import numpy as np

from train.data.feed import eval_feed
from train.data.feed_timeout import TimeoutFeed
from train.setup import Run
from train.steps.recalibration import no_moments
from train.steps.state import TrainState
from train.steps.step import Batch

__all__ = ["evaluate", "predict_first", "recalibrate"]


def recalibrate(run: Run, state: TrainState, batches: TimeoutFeed[Batch]) -> TrainState:
    """The state with the statistics of the weights that are evaluated, where a config wants them.

    Those over the next `recalibration_batches` of `batches`, the feed of training, which is left
    where it was. They replace the moving ones, of which training reads nothing, so that what is
    evaluated is what is saved.
    """
    if run.recalibration_step is None:
        return state
    position = batches.get_state()
    moments = run.parallel.replicate(no_moments(state.batch_stats))
    for _ in range(run.config.recalibration_batches):
        moments = run.recalibration_step((state, moments), next(batches))
    batches.set_state(position)
    if state.ema is None:
        return state.replace(batch_stats=moments.batch_stats)
    return state.replace(ema={**state.ema, "batch_stats": moments.batch_stats})


def evaluate(
    run: Run, state: TrainState, after_batch: Callable[[], object] = lambda: None
) -> tuple[dict[str, float], np.ndarray]:
    """The task's metrics and the mean `loss` over every example of the evaluation split, once each.

    Also returns the confusion matrix, int64 (classes, classes): rows are labels, columns
    predictions. `after_batch` is called after each batch; what it raises ends the evaluation.
    """
    loss, examples, confusion = 0.0, 0, np.zeros((), np.int64)
    batches = eval_feed(
        run.eval_source,
        batch_size=run.config.eval_batch_size,
        multiple_of=len(run.parallel.local_devices),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=run.config.data_workers,
    )
    with TimeoutFeed[Batch](batches, run.config.data_timeout_seconds) as watched:
        for batch in watched:
            sums = jax.device_get(run.eval_step(state, batch))
            loss += float(sums["loss"])
            examples += int(sums["examples"])
            confusion = confusion + sums["confusion"]
            after_batch()
    if examples != len(run.eval_source):
        raise RuntimeError(f"evaluated {examples} of {len(run.eval_source)} examples.")
    labels = int(confusion.sum())
    if not labels:
        raise ValueError(
            f"expected labels in the evaluation split of {run.config.dataset!r}, got masks that "
            f"ignore every pixel. Probably they hold 255 in place of class numbers."
        )
    metrics = {name: metric(confusion) for name, metric in run.task.metrics.items()}
    return {**metrics, "loss": loss / labels}, confusion


def predict_first(
    run: Run, state: TrainState, count: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of the first evaluation examples, their labels, and what the network makes of them."""
    examples = [run.eval_source[i] for i in range(min(count, len(run.eval_source)))]
    images, labels = (np.stack([x[name] for x in examples]) for name in ("image", "label"))
    return images, labels, np.asarray(run.predict(state, images))
