"""Evaluate a checkpoint of a run.

For example::

    python -m train.evaluate --workdir=runs/digits --step=best

The run's config.json determines the network, the dataset and the evaluation split. The workdir
does not change, so the run may still be training. The training data are not needed. One process
evaluates on all its devices.

With --original_size, masks are compared in the sizes of their images, as `python -m train.predict`
writes them, instead of the size that the network reads. One device evaluates.
"""

from absl import flags

from train.command_errors import errors_in_one_line
from train.command_flags import define_checkpoint_flags, run_command

__all__ = ["define_flags", "main"]


def main() -> None:
    """Evaluate, and print the metrics.

    Raises:
        SystemExit: If there is an error that is expected.
    """
    from train.reporting.class_scores import format_class_scores
    from train.reporting.metrics import format_metrics
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.saved_evaluation import evaluate_checkpoint

    options = flags.FLAGS
    enable_compilation_cache(None)
    with errors_in_one_line():
        evaluated = evaluate_checkpoint(
            options.workdir,
            options.step,
            split=options.split,
            data_dir=options.data_dir,
            original_size=options.original_size,
        )
    metrics = evaluated.metrics
    print(f"step {evaluated.step}: {format_metrics(metrics)}")
    if "cropped" in metrics:
        print(
            f"{metrics['cropped']:.1%} of the labels are not counted: images of another shape are "
            f"cropped before the network. Train with --config.resize=pad."
        )
    print("\n".join(format_class_scores(evaluated.scores)))


def define_flags() -> None:
    """Define the flags of the command."""
    define_checkpoint_flags()
    flags.DEFINE_bool("original_size", False, "Compare masks in the sizes of their images.")
    flags.DEFINE_string("split", "", "Another split, as TFDS names it: train, test[:10%].")


if __name__ == "__main__":
    define_flags()
    run_command(main)
