"""Train several variants of a config with several seeds, and write one table.

For example::

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare

The config is one of `python -m train` with two more fields: `variants`, overrides by label, and
`seeds`. The run of a variant and a seed is in `WORKDIR/LABEL/seedN`. The same command resumes a
comparison that was stopped, and does not train finished runs again.
"""

import sys
from typing import IO, cast

from absl import flags
from rich.console import Console

from train.command_errors import errors_in_one_line, exit_after_error
from train.command_flags import define_run_flags, run_command
from train.runtime.disconnect_tolerant_output import DisconnectTolerantOutput

__all__ = ["define_flags", "main"]


def main() -> None:
    """Train the missing runs, and print the table and where it is.

    Raises:
        SystemExit: If there is an error that is expected.
    """
    from train.comparison import run_comparison
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.runtime.malloc import retain_freed_memory

    options = flags.FLAGS
    console = Console(file=cast(IO[str], DisconnectTolerantOutput(sys.stdout)))
    workdir = options.workdir
    with errors_in_one_line(traceback=options.traceback):
        retain_freed_memory()
        enable_compilation_cache(options.compilation_cache)
        comparison = run_comparison(
            options.config, workdir, console, options.only, options.traceback
        )
    console.print(
        f"\n{comparison.table}\nwritten to {workdir}:\n"
        "  comparison.md     this table\n"
        "  comparison.json   all its numbers\n"
        "  comparison.png    one dot per run",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if comparison.error:
        exit_after_error(comparison.error)


def define_flags() -> None:
    """Define the flags of the command."""
    define_run_flags()
    flags.DEFINE_list("only", [], "Labels of the variants to train; all by default.")


if __name__ == "__main__":
    define_flags()
    run_command(main)
