"""Define and parse the flags of the commands `python -m train` and `python -m train.*`.

JAX and the modules that need it are imported in functions, so that a wrong flag is reported
immediately.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from train.command_errors import (
    explain_config_error,
    explain_unknown_flag,
    warnings_in_one_line,
)
from train.runtime.interruption import interrupts_in_one_line

# `--help` lists the flags under the command that calls a function of this module.
flags.disclaim_key_flags()

__all__ = [
    "OPEN_FIELDS",
    "check_config_file",
    "define_checkpoint_flags",
    "define_config",
    "define_path",
    "define_run_flags",
    "parse_flags",
    "run_command",
]

OPEN_FIELDS = ("fusion_fields", "model_fields")
"""Config fields to which flags may add fields. The fusion and the model check the new fields."""


def define_config() -> None:
    """Define the flag of the config."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="Config file, such as configs/digits.py. Set its fields with "
        "--config.FIELD=VALUE; configs/base.py explains all of them.",
        # `_check_config_fields` locks it after checking which fields were added.
        lock_config=False,
        accept_new_attributes=True,
    )


def define_run_flags() -> None:
    """Define the flags of the commands that train: config, workdir, and how to start."""
    define_config()
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
    flags.DEFINE_string("data_dir", None, "Data directory; by default, the run's data directory.")


class _PathParser(flags.ArgumentParser[Path]):
    """Parse a path, and replace `~` by the home directory.

    A shell does not expand the `~` of `--workdir=~/x`, and would then find a folder named `~`.
    """

    def parse(self, argument: str) -> Path:
        if "://" in argument:
            raise ValueError(
                "expected a path, got a URL. Use a file system that all machines of the run share, "
                "and copy the files to the bucket afterwards."
            )
        return Path(os.path.expanduser(argument))

    def flag_type(self) -> str:
        return "path"


def define_path(name: str, description: str) -> flags.FlagHolder[Path]:
    """Define a required flag that is a path.

    Args:
        name: Name of the flag.
        description: Help text.

    Returns:
        The flag.
    """
    return flags.DEFINE(_PathParser(), name, None, description, required=True)


def run_command(main: Callable[[], None]) -> None:
    """Parse the command line and run a command. Ctrl-C ends it with one line.

    Args:
        main: The command, which reads `flags.FLAGS`.

    Raises:
        SystemExit: Always; 0 if `main` returns, 130 after Ctrl-C.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax and TFDS log many lines per checkpoint
    with interrupts_in_one_line(), warnings_in_one_line():
        app.run(lambda program: main(), flags_parser=parse_flags)


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
    """Check that only `OPEN_FIELDS` have fields that the base lacks, and lock the config."""
    config: ConfigDict | None = flags.FLAGS.config
    if config is None:
        raise ValueError("--config is missing, as in --config=configs/digits.py.")
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    from aff_jax.lookup import unknown_name
    from configs import base

    original: Any = flags.FLAGS["config"].parser.parse(file)
    # Fields of the base and of a comparison. A file that misspells a field would add one.
    known = [*base.get_config(), "baseline", "seeds", "variants"]
    for name in original:
        if name not in known:
            raise ValueError(f"{file}: {unknown_name('config field', name, known)}")
    for name in config:
        if name not in original:
            raise ValueError(unknown_name("config field", name, original))
        if isinstance(config[name], ConfigDict) and name not in OPEN_FIELDS:
            for inner in config[name]:
                if inner not in original[name]:
                    raise ValueError(unknown_name(f"field of {name}:", inner, original[name]))
    config.lock()


def check_config_file(argv: Sequence[str]) -> list[str]:
    """Check that the file of the flag `--config` exists, and replace `~` in it.

    Without this, ml_collections reports an internal name instead of a missing file.

    Args:
        argv: The command line.

    Returns:
        The command line, with the home directory in place of `~` in that flag.

    Raises:
        ValueError: If the file does not exist, or is not a Python file.
    """
    arguments = list(argv)
    for number, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            continue
        if equals:
            arguments[number] = f"{flag}={_config_file(value)}"
        elif number + 1 < len(argv):
            arguments[number + 1] = _config_file(argv[number + 1])
    return arguments


def _config_file(value: str) -> str:
    """Return the value of the flag `--config` with the home directory in place of `~`."""
    expanded = os.path.expanduser(value)
    path = Path(expanded.partition(":")[0])  # an argument of `get_config` may follow
    if path.is_dir():
        raise ValueError(f"expected a config file as --config, got the directory {path}.")
    if not path.exists():
        from aff_jax.lookup import unknown_name

        known = [str(file) for file in Path("configs").glob("*.py") if file.name != "__init__.py"]
        hint = "" if known else " Start the command in the root of the repository."
        raise ValueError(unknown_name("config file", str(path), known) + hint)
    if path.suffix != ".py":
        raise ValueError(
            f"expected a Python file with a function get_config() as --config, got {path}."
        )
    return expanded
