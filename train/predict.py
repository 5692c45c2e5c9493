"""Predict images with a checkpoint of a run.

For example::

    python -m train.predict --workdir=runs/mine --images=PATH --output=PATH

writes the class and the probability of each image to predictions.csv and predictions.json. For
segmentation it also writes the masks, and the images with their masks. The training data are not
needed. `aff-jax predict` does the same with a file of `python -m train.save_model`.
"""

import sys

from absl import flags

from train.command_errors import errors_in_one_line
from train.command_flags import define_checkpoint_flags, define_path, run_command

__all__ = ["define_flags", "main"]


def main() -> None:
    """Predict, and print what was written.

    Raises:
        SystemExit: With status 1 if some images could not be read, or there is an error that is
            expected.
    """
    from aff_jax.cli.predict import predict_and_report
    from aff_jax.prediction.predictor import BATCH_SIZE, Predictor
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.saved_run import restore_network

    options = flags.FLAGS
    enable_compilation_cache(None)
    with errors_in_one_line():
        network = restore_network(options.workdir, options.step, data_dir=options.data_dir)
        status = predict_and_report(
            Predictor(network.model, network.variables, network.image_task),
            options.images,
            options.output,
            network=f"{options.workdir}, step {network.step}",
            overwrite=options.overwrite,
            batch_size=BATCH_SIZE if options.batch_size is None else options.batch_size,
        )
    sys.exit(status)


def define_flags() -> None:
    """Define the flags of the command."""
    define_checkpoint_flags()
    define_path("images", "An image, or a folder with images at any depth.")
    define_path("output", "The folder to write.")
    flags.DEFINE_bool("overwrite", False, "Replace the predictions in the folder.")
    flags.DEFINE_integer("batch_size", None, "Number of images predicted at once; default: 16.")


if __name__ == "__main__":
    define_flags()
    run_command(main)
