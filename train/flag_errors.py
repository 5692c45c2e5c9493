"""Explain mistakes in flags: config files that can't be used, and unknown flags.

Modules that import JAX are imported in functions; see `train.command_line`.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

__all__ = ["check_config_file", "explain_config_error", "explain_unknown_flag"]


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


def explain_config_error(error: Exception) -> str:
    """Return the message of an error that reading a config file has raised."""
    text = str(error).strip()
    if isinstance(error, AttributeError) and "'get_config'" in text:
        return (
            "expected a function get_config() in the file of --config, found none. Begin as the "
            "files in configs/ do."
        )
    if re.search(r"get_config\(\) takes 0 positional arguments", text):
        return (
            "the file of --config takes no argument after a colon: its get_config() has no "
            "parameter. Set its fields with --config.FIELD=VALUE."
        )
    return text


def explain_unknown_flag(error: flags.UnrecognizedFlagError) -> str:
    """Return a message with the closest flags, of which the fields of the config are some."""
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
