"""`aff-jax summary`: print the layers of a network."""

import argparse
import shutil
import sys
from typing import Any

import jax
import jax.numpy as jnp

from aff_jax.cli.command_help import help_line
from aff_jax.cli.network_flags import channels_flag, create, input_size_flag

__all__ = ["add_parser", "summary"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to the parser of `aff-jax`.

    Args:
        commands: Subparsers of `aff-jax`.
        network: Parent parser with the flags that describe a network.
    """
    parents = [network, channels_flag()]
    command = commands.add_parser("summary", parents=parents, help=help_line(summary))
    command.add_argument("model", help="a name of aff_jax.list_models()")
    input_size_flag(command, 224)
    command.add_argument("--depth", type=int, help="depth of nested submodules to print")
    command.set_defaults(run=summary)


def summary(arguments: argparse.Namespace) -> int:
    """Print the layers of a network with their parameters and outputs.

    Args:
        arguments: Parsed flags of this command.

    Returns:
        Exit status 0.

    Raises:
        ValueError: If a name or a field is unknown.
    """
    images = jnp.zeros((1, *arguments.input_size, arguments.channels or 3))
    # By default, `tabulate` prints 80 columns in color, into files as well.
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    console = {"force_terminal": terminal, "width": width}
    model = create(arguments)
    key = jax.random.key(0)
    print(model.tabulate(key, images, depth=arguments.depth, console_kwargs=console))
    return 0
