r"""Evaluate a file of weights on the dataset of a config, for example converted weights.

For example::

    aff-jax convert weights.params aff.safetensors --model cifar_resnet32 --field width=4 \
        --fusion aff --reference mxnet
    python -m train.evaluate_weights --weights=aff.safetensors --config=configs/cifar10_resnet32.py

The network comes from the file. The config chooses the dataset, its preprocessing, the split that
is evaluated and the batch size.
"""

from absl import flags

from train.command_errors import errors_in_one_line
from train.command_flags import define_config, define_path, run_command

__all__ = ["define_flags", "main"]


def main() -> None:
    """Evaluate, and print the metrics.

    Raises:
        SystemExit: If there is an error that is expected.
    """
    from train.reporting.class_scores import format_class_scores
    from train.reporting.metrics import format_metrics
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.saved_evaluation import evaluate_weights

    options = flags.FLAGS
    enable_compilation_cache(None)
    with errors_in_one_line():
        evaluated = evaluate_weights(options.config, options.weights, options.split)
    print(f"{options.weights}: {format_metrics(evaluated.metrics)}")
    print("\n".join(format_class_scores(evaluated.scores)))


def define_flags() -> None:
    """Define the flags of the command."""
    define_config()
    define_path("weights", "File that aff_jax.save or aff-jax convert wrote.")
    flags.DEFINE_string("split", "", "Another split, as TFDS names it: train, test[:10%].")


if __name__ == "__main__":
    define_flags()
    run_command(main)
