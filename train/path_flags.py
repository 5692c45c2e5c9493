"""Flags that are paths of files and directories, with one rule for all of them."""

import os
from pathlib import Path

from absl import flags

# `--help` lists a flag under the module that calls `define_path`.
flags.disclaim_key_flags()

__all__ = ["define_path"]


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
    """
    return flags.DEFINE(_PathParser(), name, None, description, required=True)
