"""The weights of a checkpoint as one file, from which `aff_jax.load` makes the network again.

    python -m train.export --workdir=runs/digits --output=digits.safetensors --step=best

Nothing in the workdir changes, so the run may be under way.
"""

from pathlib import Path

from absl import flags

import aff_jax
from train.evaluate import define_checkpoint_flags, open_run, run_command

__all__ = ["export_checkpoint"]


def export_checkpoint(
    workdir: Path,
    output: Path,
    step: str = "best",
    *,
    data_dir: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write what is evaluated of a checkpoint and its model to `output`; returns the step.

    These are the moving averages of the variables where the run has them, and what recalibration
    made of the statistics.

    The model is the run's, but that its batch norms know of no other devices: it can be trained
    further without any mapped axis. Images go in normalized, as in `train.data.augment.normalize`.

    Raises:
        ValueError, FileNotFoundError: there is no such run, checkpoint or data set.
        FileExistsError: there is such a file, and not `overwrite`.
    """
    from train.model import make_model

    run, restored = open_run(workdir, step, data_dir, sync_batch_norm=False)
    model = make_model(run.config, run.train_source.num_classes)
    aff_jax.save(output, restored.state.eval_variables, model, overwrite=overwrite)
    return int(restored.step)


def _main() -> None:
    output = Path(flags.FLAGS.output)
    step = export_checkpoint(
        Path(flags.FLAGS.workdir),
        output,
        flags.FLAGS.step,
        data_dir=flags.FLAGS.data_dir,
        overwrite=flags.FLAGS.overwrite,
    )
    print(f"wrote the network of step {step} to {output}; aff_jax.load reads it")


if __name__ == "__main__":
    define_checkpoint_flags()
    flags.DEFINE_string("output", None, "The .safetensors file to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace the file if there is one.")
    run_command(_main)
