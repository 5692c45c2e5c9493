"""Train a network.

For example::

    python -m train --config=configs/digits.py --workdir=runs/digits

The same command resumes a run that was stopped. Every field of the config is a flag, such as
`--config.epochs=20`; configs/base.py explains all of them.
"""

import os
import sys
from pathlib import Path
from typing import IO, Any, cast

from absl import flags
from rich.console import Console
from rich.markup import escape

from train.command_errors import errors_in_one_line
from train.command_flags import define_run_flags, run_command
from train.runtime.disconnect_tolerant_output import DisconnectTolerantOutput

__all__ = ["define_flags", "main"]


def main() -> None:
    """Train, and print the results and where they are.

    Raises:
        SystemExit: If Ctrl-C is pressed before the training starts, or an error is expected.
    """
    console = Console(file=cast(IO[str], DisconnectTolerantOutput(sys.stdout)))
    workdir = flags.FLAGS.workdir
    summary = _train(workdir, console)
    if summary is not None:
        _print_summary(summary, workdir, console)


def _train(workdir: Path, console: Console) -> dict[str, Any] | None:
    """Return the run's summary, or None in all processes except the primary one."""
    from train.runtime import distributed
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.runtime.malloc import retain_freed_memory
    from train.runtime.profiling import Profile

    options = flags.FLAGS
    retain_freed_memory()
    with errors_in_one_line(traceback=options.traceback):
        profile = Profile.parse(options.profile) if options.profile else None
        several_processes = distributed.initialize(
            options.coordinator_address,
            options.num_processes,
            options.process_id,
            timeout_seconds=options.process_timeout,
        )
        enable_compilation_cache(options.compilation_cache)

    from train.start import train

    with errors_in_one_line(traceback=options.traceback, several_processes=several_processes):
        summary = train(options.config, workdir, console, profile, extend=options.extend)
    return summary if distributed.is_primary_process() else None


def _print_summary(summary: dict[str, Any], workdir: Path, console: Console) -> None:
    """Print the result of the run and the files that it has written."""
    from train.reporting.metrics import format_metrics

    speed = summary["examples_per_second"]
    shown = []
    for prefix, name in (("eval_", f"{summary['evaluated_split']} "), ("test_", "test ")):
        metrics = {k.removeprefix(prefix): v for k, v in summary.items() if k.startswith(prefix)}
        shown += [text] if (text := format_metrics(metrics, name)) else []
    written = {
        "summary.json": "these numbers",
        "curves.png": "loss and accuracy over the steps",
        "confusion.png": "confusion matrix",
        "predictions.png": "images with their predictions",
        "metrics.jsonl": "all metrics, one JSON object per line",
        "tensorboard": "the same for `tensorboard --logdir`",
        "checkpoints": "the newest weights and the best",
    }
    console.print(
        f"\n[bold]{'; '.join(shown)}[/bold] "
        f"after {summary['step']} steps ({summary['epochs']:.1f} epochs)"
        f"\n{summary['parameters']:,} parameters, {summary['wall_seconds']:.1f} s"
        + (f", {speed:,.0f} images/s while training" if speed else "")
        + f", on {summary['devices']}"
        + f"\n\nwritten to {escape(str(workdir))}:"
        + "".join(
            f"\n  {name:<16} {content}"
            for name, content in written.items()
            if (workdir / name).exists()
        )
        + "\n\nto predict other images with the best checkpoint:"
        + f"\n  {escape(_python())} -m train.predict "
        + f"--workdir={escape(str(workdir))} --images=IMAGES --output=FOLDER",
        highlight=False,
        soft_wrap=True,
    )


def _python() -> str:
    """Return the running interpreter as a command in the current directory."""
    here = f"{Path.cwd()}{os.sep}"
    return sys.executable.removeprefix(here) if sys.executable.startswith(here) else "python"


def define_flags() -> None:
    """Define the flags of the command."""
    define_run_flags()
    flags.DEFINE_string(
        "profile", None, "FIRST:LAST. Write a profiler trace of these steps to WORKDIR/profile."
    )
    flags.DEFINE_bool(
        "extend",
        False,
        "Continue the run in --workdir from its last checkpoint, with its optimizer state and "
        "changed fields of the config: more epochs, another learning rate, schedule or "
        "augmentation.",
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "HOST:PORT of process 0, in a run of several processes. Detected on Slurm, Open MPI and "
        "TPU.",
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes of the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")
    flags.DEFINE_integer(
        "process_timeout",
        100,
        "Seconds to wait for a process that is missing or does not respond, before the run ends.",
        lower_bound=1,
    )


if __name__ == "__main__":
    define_flags()
    run_command(main)
