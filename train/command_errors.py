"""Messages for mistakes in flags, and the end of a command after an error.

An expected error, such as a wrong flag, ends a command with exit status 1 and one line on stderr.
JAX and the modules that need it are imported in functions, so that a wrong flag is reported
immediately.
"""

import contextlib
import difflib
import re
import warnings
from collections.abc import Iterator
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict

__all__ = [
    "errors_in_one_line",
    "exit_after_error",
    "explain_config_error",
    "explain_unknown_flag",
    "warnings_in_one_line",
]


def explain_config_error(error: Exception) -> str:
    """Return the message of an error that parsing the flags or reading a config file has raised.

    Args:
        error: The error.

    Returns:
        The message.
    """
    text = str(error).strip()
    if isinstance(error, AttributeError) and "'get_config'" in text:
        return (
            "expected a function get_config() in the file of --config, found none. Begin as the "
            "files in configs/ do."
        )
    if places := re.findall(r'File "(.+)", line (\d+), in get_config', text):
        file, line = places[-1]
        return f"{file}, line {line}: {text.splitlines()[-1]}"
    if re.search(r"get_config\(\) takes 0 positional arguments", text):
        return (
            "the file of --config takes no argument after a colon: its get_config() has no "
            "parameter. Set its fields with --config.FIELD=VALUE."
        )
    if missing := re.findall(r"Flag --(\w+) must have a value other than None", text):
        return "\n".join(f"--{name} is missing. {flags.FLAGS[name].help}" for name in missing)
    return text


def explain_unknown_flag(error: flags.UnrecognizedFlagError) -> str:
    """Return a message that suggests the flags with the most similar names.

    The fields of the config are flags too: `--config.FIELD`.

    Args:
        error: The error of absl.

    Returns:
        The message, one sentence or more.
    """
    known = list(flags.FLAGS)
    config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
    if isinstance(config, ConfigDict):
        from flax import traverse_util

        known += [
            f"config.{name}" for name in traverse_util.flatten_dict(config.to_dict(), sep=".")
        ]
    names = difflib.get_close_matches(error.flagname, known, cutoff=0.6)
    hint = f" Did you mean {' or '.join(f'--{name}' for name in names)}?" if names else ""
    more = " Fields of the config are --config.FIELD; configs/base.py has them all."
    return f"Unknown command line flag {error.flagname!r}.{hint}" + (more if config else "")


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


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show warnings for users as one line, without the line of code that raised them."""
    formatted = warnings.formatwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is UserWarning:
            return f"warning: {message}\n"
        return formatted(message, category, filename, lineno, line)

    warnings.formatwarning = show
    try:
        yield
    finally:
        warnings.formatwarning = formatted


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
                f"{error}\nProbably another process of the run has ended or cannot be reached: see "
                f"its messages. Start all processes again to resume from the last checkpoint."
            )
            exit_immediately(error)
        exit_immediately(error, traceback=traceback or not _is_expected(error))
    if traceback:
        raise error
    raise SystemExit("\n".join([f"error: {error}", *getattr(error, "__notes__", ())])) from error


def _is_expected(error: Exception) -> bool:
    """Return whether an error has a message for users, so that no traceback is needed."""
    from train.checkpoints.manager import AllDamagedError
    from train.data.feed_timeout import FeedError
    from train.reporting.step_metrics import NonFiniteError

    run_errors = AllDamagedError, FeedError, NonFiniteError
    return isinstance(error, (ValueError, TypeError, OSError, *run_errors))
