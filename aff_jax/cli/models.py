"""`aff-jax models` and `aff-jax summary`: what there is, and what it is made of."""

import argparse
import fnmatch
import shutil
import sys
from typing import Any

import jax
import jax.numpy as jnp

import aff_jax
from aff_jax.cli.network_flags import create, positive
from aff_jax.lookup import unknown_name

__all__ = ["add_parser"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the commands to those of `aff-jax`; `network` has the flags that they share."""
    command = commands.add_parser("models", parents=[network], help=models.__doc__)
    command.add_argument("--filter", default="*", help="a pattern such as 'cifar_*'")
    command.add_argument("--input-size", type=positive, default=224, help="height and width")
    command.set_defaults(run=models)

    command = commands.add_parser("summary", parents=[network], help=summary.__doc__)
    command.add_argument("model", help="a name of aff_jax.list_models()")
    command.add_argument("--input-size", type=positive, default=224, help="height and width")
    command.add_argument("--depth", type=int, help="how deep to look into submodules")
    command.set_defaults(run=summary)


def models(arguments: argparse.Namespace) -> int:
    """Names, trainable parameters and floating-point operations of the hosts."""
    size = arguments.input_size
    names = fnmatch.filter(aff_jax.list_models(), arguments.filter)
    if not names:
        raise ValueError(unknown_name("model", arguments.filter, aff_jax.list_models()))
    print(f"{'model':<24}{'parameters':>14}{f'GFLOPs at {size}x{size}':>22}")
    for name in names:
        model = create(arguments, name)
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        # A multiply and an add are two operations.
        cost = jax.jit(model.apply).lower(variables, images).cost_analysis() or {}
        print(f"{name:<24}{count:>14,}{cost.get('flops', float('nan')) / 1e9:>22.3g}", flush=True)
    return 0


def summary(arguments: argparse.Namespace) -> int:
    """Every layer of a host with its parameters and output, by linen's tabulate."""
    size = arguments.input_size
    images = jnp.zeros((1, size, size, 3))
    # Linen would fold the table into 80 columns and colour it, also where it goes to a file.
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    console = {"force_terminal": terminal, "width": width}
    model = create(arguments)
    key = jax.random.key(0)
    print(model.tabulate(key, images, depth=arguments.depth, console_kwargs=console))
    return 0
