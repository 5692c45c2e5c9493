"""Train a run: open its workdir, restore its state, and take its steps."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from train.checkpoints.manager import Checkpoints
from train.checkpoints.reading import checkpoint_steps
from train.data.batch import Batch
from train.data.feed_timeout import TimeoutFeed
from train.data.pipeline import make_train_feed, parse_image_size
from train.loop import TrainingLoop
from train.reporting.config_file import read_config
from train.reporting.dataset_file import record_dataset
from train.reporting.extension import extend_workdir
from train.reporting.run_report import RunReport
from train.reporting.run_start import describe_start
from train.reporting.workdir import (
    check_same_config,
    check_shared,
    claim_workdir,
    lock_workdir,
)
from train.runtime.distributed import is_primary_process
from train.runtime.preemption import StopSignals
from train.runtime.profiling import Profile
from train.setup import Run, make_run
from train.steps.parallel import check_batch_size
from train.steps.state import TrainState

__all__ = ["train"]


def train(
    config: ConfigDict,
    workdir: Path,
    console: Console,
    profile: Profile | None = None,
    *,
    extend: bool = False,
) -> dict[str, Any]:
    """Train a run from the last checkpoint in its workdir, or from the start, to the end.

    All processes of a run call this function. Only the primary process prints.

    Args:
        config: The config.
        workdir: Directory of the run.
        console: Console of the primary process.
        profile: Steps to trace; None for no trace.
        extend: Whether to train the run in the workdir for longer, with the fields of the config
            that `train.reporting.extension.EXTENDABLE_FIELDS` lists.

    Returns:
        The contents of summary.json.

    Raises:
        ValueError: If a field of the config has an invalid value, or the workdir
            belongs to another run.
        FileNotFoundError: If the dataset is not prepared.
        OSError: If a file could not be written. The last checkpoint remains.
        NonFiniteError: If losses or gradients were not finite. The last checkpoint remains.
        FeedError: If the examples cannot be read any more. The last checkpoint remains.
        Stopped: If Ctrl-C, SIGTERM or a similar signal was received. The state was saved.
    """
    if not is_primary_process():
        console = Console(quiet=True)
    with StopSignals(console) as signals:
        check_same_config(config)
        checkpoint_directory = workdir / "checkpoints"
        resumes = bool(checkpoint_steps(checkpoint_directory))
        run = make_run(config, from_checkpoint=resumes)
        check_batch_size(config.batch_size, len(run.parallel.devices), config.accumulation)
        train_feed = make_train_feed(config, run.train_source, run.parallel)
        if extend:
            read_config(workdir)  # raises if there is no run
        else:
            claim_workdir(workdir, config)
        check_shared(workdir)
        dataset_warning = record_dataset(workdir, run.train_source, resumes)
        with (
            lock_workdir(workdir),
            TimeoutFeed[Batch](train_feed, config.data_timeout_seconds) as feed,
            Checkpoints(
                checkpoint_directory,
                keep_last=config.keep_checkpoints,
                best_metric=f"eval_{run.task_metrics.score_name}",
                warn=partial(console.print, markup=False, highlight=False, soft_wrap=True),
            ) as checkpoints,
        ):
            total_steps = run.epochs.total_steps
            extended = extend and extend_workdir(
                workdir, config, checkpoints.latest_step or 0, total_steps
            )
            state, step, evaluated = _restore(run, feed, checkpoints)
            with RunReport(
                workdir,
                start_step=step,
                total_steps=total_steps,
                console=console,
                eval_name=run.eval_name,
            ) as report:
                if step >= total_steps and evaluated:
                    report.log(f"This run was complete at step {step}; evaluating it again.")
                    report.log("To train it for longer, add --extend and a larger --config.epochs.")
                elif extended:
                    report.log(f"Extending the run from step {step} to {total_steps}.")
                elif step:
                    report.log(f"Resuming from step {step} of {total_steps}.")
                else:
                    for line in run.init_report:
                        report.log(line)
                if dataset_warning:
                    report.log(dataset_warning)
                for line in _describe_run(run):
                    report.log(line)
                report.log(f"Running on {run.parallel.describe()}.")
                if warning := run.epochs.warning:
                    report.log(warning)
                loop = TrainingLoop(run, feed, checkpoints, report, signals, profile)
                return loop.run_to_end(state, step, evaluated)


def _describe_run(run: Run) -> list[str]:
    """Describe the data and the length of a run."""
    resizes = parse_image_size(run.config.image_size) is not None
    return describe_start(
        run.train_source,
        run.eval_source,
        run.test_source,
        run.epochs,
        eval_name=run.eval_name,
        splits_note=run.splits_note,
        resize=run.config.resize if resizes else "",
    )


def _restore(
    run: Run, feed: TimeoutFeed[Batch], checkpoints: Checkpoints
) -> tuple[TrainState, int, bool]:
    """Return the state to start from, its step, and whether it was evaluated."""
    if checkpoints.latest_step is None:
        return run.state, 0, False
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        run.state,
    )
    # The devices may not have the memory for the initial state and the restored one.
    for leaf in jax.tree.leaves(run.state):
        leaf.delete()
    restored = checkpoints.restore(template)
    assert restored is not None  # a checkpoint exists: it was read, or an error was raised
    feed.set_state(restored.feed_state)
    return restored.state, restored.step, bool(restored.metrics)
