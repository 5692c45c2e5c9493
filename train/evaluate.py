"""A checkpoint of a run on its evaluation split, or on another: every example once.

    python -m train.evaluate --workdir=runs/digits --step=best

The network, the data set and all else are those of the run's config.json. Nothing in the workdir
changes, so the run may be under way. It takes one process, on whatever devices that sees.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict

__all__ = ["define_checkpoint_flags", "evaluate_checkpoint", "open_run", "run_command"]


def define_checkpoint_flags() -> None:
    """The flags that name a checkpoint."""
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_string("step", "best", 'Which checkpoint: "best", "last" or a step.')
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps data, if not where the run had it.")


def open_run(workdir: Path, step: str, data_dir: str | None = None, **changes: Any) -> Any:
    """The run in `workdir`, ready to start, and its checkpoint `step`: (Run, Restored).

    `changes` are config fields that are to have other values.

    Raises:
        ValueError, FileNotFoundError: there is no such run, checkpoint or data set.
    """
    from train.checkpoints.reading import read_checkpoint
    from train.reporting.workdir import read_config
    from train.setup import prepare

    if step not in ("best", "last") and not step.isdigit():
        raise ValueError(
            f"expected --step=best, --step=last or the number of a step, got {step!r}."
        )
    config: ConfigDict = read_config(workdir)
    if data_dir is not None:
        config.data_dir = data_dir
    config.update(changes)
    try:
        run = prepare(config, from_checkpoint=True)
    except (AttributeError, KeyError) as error:
        raise ValueError(
            f"the config.json of {workdir} is of another version of this program: {error}"
        ) from error
    best_metric = f"eval_{run.task.score}"
    return run, read_checkpoint(workdir / "checkpoints", step, run.state, best_metric=best_metric)


def evaluate_checkpoint(
    workdir: Path, step: str = "best", *, split: str = "", data_dir: str | None = None
) -> dict[str, float]:
    """The task's metrics and the mean `loss` of a checkpoint, and its `step`.

    `split` is anything TFDS understands, by default the run's evaluation split.

    Raises:
        ValueError, FileNotFoundError: there is no such run, checkpoint, split or data set.
    """
    from train.data.pipeline import open_split
    from train.eval_loop import evaluate

    run, restored = open_run(workdir, step, data_dir)
    if split:
        run = dataclasses.replace(run, eval_source=open_split(run.config, split))
    metrics, _ = evaluate(run, restored.state)
    return {**metrics, "step": restored.step}


def run_command(main: Any) -> None:
    """Parse flags and call `main()`; a mistake ends it in one line."""

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return list(flags.FLAGS(list(argv)))
        except flags.Error as error:
            raise SystemExit(f"error: {error}") from None

    def guarded(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise SystemExit(f"error: expected flags only, got {' '.join(argv[1:])!r}.")
        logging.set_verbosity(logging.WARNING)
        from train.data.feed_timeout import FeedError
        from train.runtime.compilation_cache import enable_compilation_cache
        from train.runtime.distributed import exit_immediately

        enable_compilation_cache(None)
        try:
            main()
        except FeedError as error:
            exit_immediately(error)  # what reads hangs, and an ordinary end would wait for it
        except (ValueError, OSError, RuntimeError) as error:
            raise SystemExit(f"error: {error}") from error

    app.run(guarded, flags_parser=parse)


def _main() -> None:
    from train.reporting.tasks import describe

    metrics = evaluate_checkpoint(
        Path(flags.FLAGS.workdir),
        flags.FLAGS.step,
        split=flags.FLAGS.split,
        data_dir=flags.FLAGS.data_dir,
    )
    print(f"step {metrics['step']}: {describe(metrics)}")


if __name__ == "__main__":
    define_checkpoint_flags()
    flags.DEFINE_string("split", "", "Another split, as TFDS names it: train, test[:10%].")
    run_command(_main)
