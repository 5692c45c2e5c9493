"""`aff-jax models`: list the networks."""

import argparse
import fnmatch
from typing import Any

import jax
import jax.numpy as jnp

import aff_jax
from aff_jax.cli.command_help import help_line
from aff_jax.cli.network_flags import channels_flag, create, input_size_flag
from aff_jax.hosts.registry import MODELS
from aff_jax.inspection import count_flops, count_parameters
from aff_jax.lookup import unknown_name

__all__ = ["add_parser", "models"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to the parser of `aff-jax`.

    Args:
        commands: Subparsers of `aff-jax`.
        network: Parent parser with the flags that describe a network.
    """
    parents = [network, channels_flag()]
    command = commands.add_parser("models", parents=parents, help=help_line(models))
    command.add_argument("--filter", default="*", help="pattern of names, such as 'cifar_*'")
    command.add_argument(
        "--parameters",
        action="store_true",
        help="count the trainable parameters, in about a second for each network",
    )
    command.add_argument(
        "--cost",
        action="store_true",
        help="count parameters and floating-point operations, in a few seconds for each network",
    )
    input_size_flag(command, 224)
    command.set_defaults(run=models)


def models(arguments: argparse.Namespace) -> int:
    """List networks by family, with parameters and floating-point operations if asked for.

    Args:
        arguments: Parsed flags of this command.

    Returns:
        Exit status 0.

    Raises:
        ValueError: If no name matches the pattern, or a flag does not fit the networks.
    """
    height, width = arguments.input_size
    names = fnmatch.filter(MODELS, arguments.filter)  # in the order of the table, by family
    if not names:
        raise ValueError(unknown_name("model", arguments.filter, aff_jax.list_models()))
    titles = [f"{'model':<24}{'family':<14}"]
    if arguments.parameters or arguments.cost:
        titles.append(f"{'parameters':>14}")
    if arguments.cost:
        titles.append(f"{f'GFLOPs at {height}x{width}':>22}")
    print("".join(titles).rstrip())
    for name in names:
        model = create(arguments, name)
        cells = [f"{name:<24}{type(model).__name__:<14}"]
        if arguments.parameters or arguments.cost:
            images = jax.ShapeDtypeStruct((1, height, width, arguments.channels or 3), jnp.float32)
            variables = jax.eval_shape(model.init, jax.random.key(0), images)
            cells.append(f"{count_parameters(variables['params']):>14,}")
        if arguments.cost:
            flops = count_flops(jax.jit(model.apply).lower(variables, images))
            cells.append(f"{flops / 1e9:>22.3g}")
        print("".join(cells).rstrip(), flush=True)
    return 0
