"""The flag `--rename`, for the names of arrays in a checkpoint."""

import argparse
import re
from typing import Any

__all__ = ["parse_renames", "rename_flag"]

_PATTERN = "re:"
"""Prefix of a value of `--rename` that is a regular expression."""


def rename_flag() -> argparse.ArgumentParser:
    """Return a parent parser with the flag `--rename`.

    Returns:
        A parser without `--help`, for `parents` of the parser of a command.
    """
    rename = argparse.ArgumentParser(add_help=False)
    rename.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a prefix of PyTorch's or MXNet's names, such as encoder.fuse=blend, or with "
        "re: what a regular expression matches, such as 're:enc.(\\d)=block\\1'; may be repeated",
    )
    return rename


def parse_renames(arguments: argparse.Namespace) -> dict[Any, str]:
    """Parse the flag `--rename`.

    Args:
        arguments: Parsed flags of `rename_flag`.

    Returns:
        New prefixes by old prefix or pattern, without final dots.

    Raises:
        ValueError: If a value is not of the form OLD=NEW.
    """
    renames: dict[str | re.Pattern[str], str] = {}
    for text in arguments.rename:
        is_pattern = text.startswith(_PATTERN)
        # A regular expression may have "=" itself.
        old, equals, new = text.rpartition("=") if is_pattern else text.partition("=")
        if not equals:
            raise ValueError(f"expected --rename OLD=NEW, got {text!r}.")
        if is_pattern:
            try:
                renames[re.compile(old.removeprefix(_PATTERN))] = new
            except re.error as error:
                raise ValueError(
                    f"--rename {text!r} is not a valid regular expression: {error}."
                ) from None
        else:
            renames[old.removesuffix(".")] = new.removesuffix(".")
    return renames
