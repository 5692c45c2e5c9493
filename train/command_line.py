"""Flag parsing and error messages of the commands `python -m train` and `python -m train.*`.

A mistake of the user ends a command with exit status 1 and one line on stderr. JAX and the
modules that need it are imported in functions, so that a wrong flag is reported immediately.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from train.flag_errors import check_config_file, explain_config_error, explain_unknown_flag
from train.path_flags import define_path
from train.runtime.interruption import interrupts_in_one_line

# `--help` lists the flags under the command that calls a function of this module.
flags.disclaim_key_flags()

__all__ = [
    "OPEN_FIELDS",
    "define_checkpoint_flags",
    "define_run_flags",
    "errors_in_one_line",
    "exit_after_error",
    "parse_flags",
    "run_command",
]

OPEN_FIELDS = ("fusion_fields", "model_fields")
"""Config fields to which flags may add fields. The fusion and the model check the new fields."""


def define_run_flags() -> None:
    """Define the flags of the commands that train: config, workdir, and how to start."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="Config file, such as configs/digits.py. Set its fields with "
        "--config.FIELD=VALUE; configs/base.py explains all of them.",
        # `_check_config_fields` locks it after checking which fields were added.
        lock_config=False,
        accept_new_attributes=True,
    )
    define_path("workdir", "Directory of the run; resumes from its last checkpoint.")
    flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Directory of compiled programs for later starts, '' for none; by default "
        "$JAX_COMPILATION_CACHE_DIR or ~/.cache/aff_jax/xla.",
    )


def define_checkpoint_flags() -> None:
    """Define the flags that select a checkpoint of a run."""
    define_path("workdir", "Directory of the run.")
    flags.DEFINE_string("step", "best", 'Checkpoint to read: "best", "last" or a step.')
    flags.DEFINE_string("data_dir", None, "TFDS data directory, if other than that of the run.")


def run_command(main: Callable[[Sequence[str]], None]) -> None:
    """Parse the command line and run a command. Ctrl-C ends it with one line.

    Args:
        main: Function of the program and its arguments, without flags.

    Raises:
        SystemExit: Always; 0 if `main` returns, 130 after Ctrl-C.
    """
    with interrupts_in_one_line():
        app.run(main, flags_parser=parse_flags)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse the command line.

    Args:
        argv: The program and its arguments, as `sys.argv`.

    Returns:
        The program. Other arguments than flags are an error.

    Raises:
        SystemExit: If a flag, a config file or a config field is missing, unknown or has a wrong
            value, or there are arguments besides flags.
    """
    try:
        if "config" in flags.FLAGS:
            argv = check_config_file(argv)
        arguments: list[str] = flags.FLAGS(list(argv))
        if len(arguments) > 1:
            raise ValueError(f"expected flags only, got {' '.join(arguments[1:])!r}.")
        if "config" in flags.FLAGS:
            _check_config_fields()
    except KeyError as error:
        raise SystemExit(f"error: unknown config field {error}.") from None
    except flags.UnrecognizedFlagError as error:
        raise SystemExit(f"error: {explain_unknown_flag(error)}") from None
    except (flags.Error, AttributeError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise SystemExit(f"error: {explain_config_error(error)}") from None
    return arguments


def _check_config_fields() -> None:
    """Check that flags have added config fields to `OPEN_FIELDS` only, and lock the config."""
    config: ConfigDict | None = flags.FLAGS.config
    if config is None:
        raise ValueError("--config is missing, as in --config=configs/digits.py.")
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    from aff_jax.lookup import unknown_name

    original: Any = flags.FLAGS["config"].parser.parse(file)
    for name in config:
        if name not in original:
            raise ValueError(unknown_name("config field", name, original))
        if isinstance(config[name], ConfigDict) and name not in OPEN_FIELDS:
            for inner in config[name]:
                if inner not in original[name]:
                    raise ValueError(unknown_name(f"field of {name}:", inner, original[name]))
    config.lock()


@contextlib.contextmanager
def errors_in_one_line(
    *, traceback: bool = False, several_processes: bool = False
) -> Iterator[None]:
    """End the command with a one-line message if the body raises an expected error.

    Args:
        traceback: Whether to show a traceback instead.
        several_processes: Whether the run has several processes. Then every error ends this
            process immediately, since an ordinary exit waits for the other processes.
    """
    try:
        yield
    except Exception as error:
        if not _is_expected(error) and not several_processes:
            raise
        exit_after_error(error, traceback=traceback, several_processes=several_processes)


def exit_after_error(
    error: Exception, *, traceback: bool = False, several_processes: bool = False
) -> NoReturn:
    """End the command because of an error.

    Args:
        error: The error.
        traceback: Whether to show a traceback instead of a one-line message.
        several_processes: Whether the run has several processes.

    Raises:
        SystemExit: Always, unless `traceback` or the process exits immediately.
    """
    from jax.errors import JaxRuntimeError

    from train.data.feed_timeout import FeedError
    from train.runtime.distributed import exit_immediately

    # A feed that hangs also blocks an ordinary exit.
    if several_processes or isinstance(error, FeedError):
        if isinstance(error, JaxRuntimeError) and not traceback:
            error = RuntimeError(
                f"{error}\nProbably another process of the run has ended or can't be reached: see "
                f"its messages. Start all processes again to resume from the last checkpoint."
            )
            exit_immediately(error)
        exit_immediately(error, traceback=traceback or not _is_expected(error))
    if traceback:
        raise error
    raise SystemExit(f"error: {error}") from error


def _is_expected(error: Exception) -> bool:
    """Return whether an error has a message for users, so that no traceback is needed."""
    from train.checkpoints.manager import AllDamagedError
    from train.data.feed_timeout import FeedError
    from train.reporting.step_metrics import NonFiniteError

    of_runs = AllDamagedError, FeedError, NonFiniteError
    return isinstance(error, (ValueError, TypeError, OSError, *of_runs))
