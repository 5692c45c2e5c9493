"""Flags, and nothing else: `python -m train --config=configs/digits.py --workdir=runs/digits`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.markup import escape

from aff_jax.lookup import unknown_name

CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="Config file; its fields are set as --config.FIELD=VALUE.",
    lock_config=False,
    accept_new_attributes=True,
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; goes on from its last checkpoint.", required=True
)
OPEN_FIELDS = ("fusion_fields", "model_fields")
"""Fields whose own are those of whatever fusion and model are named."""

TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")
PROFILE = flags.DEFINE_string(
    "profile", None, "FIRST:LAST, steps of which a trace is written into WORKDIR/profile."
)
COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Directory where what was compiled is kept for the next start, '' for none; by default "
    "$JAX_COMPILATION_CACHE_DIR or ~/.cache/aff_jax/xla.",
)
COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT of process 0, where a run has several; found out on Slurm, Open MPI and TPU.",
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes the run has.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
PROCESS_TIMEOUT = flags.DEFINE_integer(
    "process_timeout",
    100,
    "Seconds after which a process that is not there, or not heard of, ends the run.",
    lower_bound=1,
)


def main(argv: Sequence[str]) -> None:
    """Train, and print what came out and where it is."""
    if len(argv) > 1:
        raise SystemExit(f"error: expected flags only, got {' '.join(argv[1:])!r}.")
    logging.set_verbosity(logging.WARNING)  # Orbax and TFDS tell a page at each checkpoint
    console = Console()
    workdir = Path(WORKDIR.value)
    try:
        summary = _train(workdir, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted; nothing was trained yet.")
        raise SystemExit(130) from None
    if summary is not None:
        _tell(summary, workdir, console)


def _train(workdir: Path, console: Console) -> dict[str, Any] | None:
    """The run's summary; None in all processes but the first."""
    # After the flags, so that a mistake in them does not wait for JAX.
    from jax.errors import JaxRuntimeError

    from train.runtime import distributed
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.runtime.malloc import retain_freed_memory
    from train.runtime.profiling import Profile

    retain_freed_memory()
    try:
        profile = Profile.parse(PROFILE.value) if PROFILE.value else None
        several = distributed.initialize(
            COORDINATOR_ADDRESS.value,
            NUM_PROCESSES.value,
            PROCESS_ID.value,
            timeout_seconds=PROCESS_TIMEOUT.value,
        )
        enable_compilation_cache(COMPILATION_CACHE.value)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error

    from train.checkpoints.manager import AllDamagedError
    from train.data.feed_timeout import FeedError
    from train.loop import train
    from train.reporting.step_metrics import NonFiniteError

    try:
        summary = train(CONFIG.value, workdir, console, profile)
    except (ValueError, TypeError, OSError, NonFiniteError, AllDamagedError, FeedError) as error:
        if several or isinstance(error, FeedError):
            distributed.exit_immediately(error, TRACEBACK.value)
        if TRACEBACK.value:
            raise
        raise SystemExit(f"error: {error}") from error
    except Exception as error:
        if not several:
            raise
        if isinstance(error, JaxRuntimeError) and not TRACEBACK.value:
            error = RuntimeError(
                f"{error}\nProbably another process of the run has ended or can't be reached: see "
                f"what it says. Start all of them again to go on from the last checkpoint."
            )
            distributed.exit_immediately(error)
        distributed.exit_immediately(error, traceback=True)
    return summary if distributed.is_primary_process() else None


def _tell(summary: dict[str, Any], workdir: Path, console: Console) -> None:
    """Print what came out and where it is."""
    from train.reporting.tasks import describe

    speed = summary["examples_per_second"]
    measured = {
        name.removeprefix("eval_"): summary[name] for name in summary if name.startswith("eval_")
    }
    drawn = (workdir / "predictions.png").exists()
    console.print(
        f"\n[bold]{describe(measured, 'test ')}[/bold] "
        f"after {summary['step']} steps ({summary['epochs']:.1f} epochs)"
        f"\n{summary['parameters']:,} parameters, {summary['wall_seconds']:.1f} s"
        + (f", {speed:,.0f} images/s while training" if speed else "")
        + f", on {summary['devices']}"
        + f"\n\nwritten to {escape(str(workdir))}:\n"
        "  summary.json     these numbers\n"
        "  curves.png       loss and accuracy over the steps\n"
        "  confusion.png    which class is taken for which\n"
        + ("  predictions.png  masks beside what is predicted\n" if drawn else "")
        + "  metrics.jsonl    every number of the run, a line an event\n"
        "  tensorboard/     the same, for `tensorboard --logdir`\n"
        "  checkpoints/     the newest weights and the best",
        highlight=False,
        soft_wrap=True,
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Flags from the command line; a config or a field that is not there ends it in one line."""
    try:
        rest: list[str] = flags.FLAGS(list(argv))
        if CONFIG.value is None:
            raise flags.Error("--config is missing, as in --config=configs/digits.py.")
        _refuse_unknown_fields(CONFIG.value)
        return rest
    except KeyError as error:
        raise SystemExit(f"error: unknown config field {error}.") from None
    except (flags.Error, AttributeError, OSError, TypeError, ValueError) as error:
        raise SystemExit(f"error: {str(error).strip()}") from None


def _refuse_unknown_fields(config: ConfigDict) -> None:
    """Flags may add fields only where a model or a fusion is to judge them."""
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    original: Any = flags.FLAGS["config"].parser.parse(file)
    for name in config:
        if name not in original:
            raise ValueError(unknown_name("config field", name, original))
        if isinstance(config[name], ConfigDict) and name not in OPEN_FIELDS:
            for inner in config[name]:
                if inner not in original[name]:
                    raise ValueError(unknown_name(f"field of {name}:", inner, original[name]))
    config.lock()


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
