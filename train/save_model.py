"""Write the model of a run, with the weights of a checkpoint, to a file for `aff_jax.load`.

For example::

    python -m train.save_model --workdir=runs/digits --output=digits.safetensors --step=best

The workdir does not change, so the run may still be training.
"""

from absl import flags

from train.command_errors import errors_in_one_line
from train.command_flags import define_checkpoint_flags, define_path, run_command

__all__ = ["define_flags", "main"]


def main() -> None:
    """Write the file, and print where it is.

    Raises:
        SystemExit: If there is an error that is expected.
    """
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.saved_run import save_model

    options = flags.FLAGS
    enable_compilation_cache(None)
    with errors_in_one_line():
        step = save_model(
            options.workdir,
            options.output,
            options.step,
            data_dir=options.data_dir,
            overwrite=options.overwrite,
        )
    print(
        f"wrote the weights of step {step} to {options.output}; read them with aff_jax.load, or "
        f"predict with: aff-jax predict {options.output} IMAGES --output=FOLDER"
    )


def define_flags() -> None:
    """Define the flags of the command."""
    define_checkpoint_flags()
    define_path("output", "The .safetensors file to write.")
    flags.DEFINE_bool("overwrite", False, "Replace an existing file.")


if __name__ == "__main__":
    define_flags()
    run_command(main)
