"""`aff-jax compare`: compare a PyTorch network and a linen network."""

import argparse
import dataclasses
from os.path import expanduser
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from aff_jax import parity
from aff_jax.cli.closed_output import ClosableOutput
from aff_jax.cli.command_help import help_line
from aff_jax.cli.flag_values import positive
from aff_jax.cli.input_files import bind_inputs, read_inputs
from aff_jax.cli.network_flags import channels_flag, create, input_size_flag
from aff_jax.cli.renames import parse_renames, rename_flag
from aff_jax.cli.user_code import make_linen_module, make_torch_module
from aff_jax.convert.checkpoint_sizes import checkpoint_image_channels, checkpoint_num_classes
from aff_jax.convert.prefixes import rename_arrays
from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.weight_files import unwrap_state_dict
from aff_jax.files.atomic_write import check_target

__all__ = ["add_parser", "compare"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to the parser of `aff-jax`.

    Args:
        commands: Subparsers of `aff-jax`.
        network: Parent parser with the flags that describe a network.
    """
    parents = [network, channels_flag(), rename_flag()]
    command = commands.add_parser("compare", parents=parents, help=help_line(compare))
    command.add_argument(
        "torch",
        type=expanduser,
        metavar="FILE.py:CALLABLE",
        help="creates the PyTorch module",
    )
    network_in_jax = command.add_mutually_exclusive_group(required=True)
    network_in_jax.add_argument("--model", help="a name of aff_jax.list_models()")
    network_in_jax.add_argument(
        "--ours",
        type=expanduser,
        metavar="FILE.py:CALLABLE",
        help="creates the linen module, or a pair of the module and its variables",
    )
    command.add_argument("--checkpoint", type=expanduser, help="weights of the PyTorch module")
    command.add_argument(
        "--inputs",
        type=expanduser,
        metavar="FILE.npz",
        help="arrays to pass to both networks; default: random images for --model. Names that are "
        "arguments of the linen module are passed as keywords",
    )
    command.add_argument(
        "--layout",
        choices=("channels_first", "same"),
        help="layout of PyTorch's inputs; default: the one that PyTorch accepts and that fits",
    )
    command.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a weight or buffer of PyTorch without a counterpart; * is any text; may be repeated",
    )
    input_size_flag(command, 64)
    command.add_argument("--batch-size", type=positive, default=2, help="number of random images")
    command.add_argument("--seed", type=int, default=0, help="seed of the random images")
    command.add_argument("--float64", action="store_true", help="run both networks in float64")
    command.add_argument("--tolerance", type=float, help="relative to the layer's largest value")
    command.add_argument("--json", type=expanduser, metavar="FILE", help="write the rows as JSON")
    command.add_argument("--html", type=expanduser, metavar="FILE", help="write a page with a plot")
    command.set_defaults(run=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Compare a PyTorch network and a linen network, activation by activation.

    Args:
        arguments: Parsed flags of this command.

    Returns:
        Exit status: 0 if all activations are equal within the tolerance, 1 otherwise.

    Raises:
        FileNotFoundError: If the directory of a file to write is missing.
        ValueError: If the PyTorch module cannot be created, or its weights do not match.
    """
    for file in (arguments.json, arguments.html):
        if file:
            check_target(Path(file), overwrite=True)
    _check_flags(arguments)
    torch_module = make_torch_module(arguments.torch, arguments.checkpoint)
    renames = parse_renames(arguments)
    variables = None
    if arguments.ours:
        module, variables = make_linen_module(arguments.ours)
    else:
        state = unwrap_state_dict(torch_module.state_dict(), arguments.torch)
        state = rename_arrays(state, renames)
        module = _create(arguments, state)
    about = {"command": arguments.command_line}
    if arguments.inputs:
        args, kwargs = bind_inputs(read_inputs(arguments.inputs), module, torch_module)
    else:
        rng = np.random.RandomState(arguments.seed)
        channels = arguments.channels or checkpoint_image_channels(state, module, PYTORCH)
        shape = (arguments.batch_size, *arguments.input_size, channels)
        images = rng.standard_normal(shape).astype(np.float32)
        args, kwargs = (images,), {}
        about["seed"] = str(arguments.seed)
    outcome = parity.compare(
        torch_module,
        module,
        variables,
        *args,
        float64=arguments.float64,
        tolerance=arguments.tolerance,
        rename=renames,
        ignore=arguments.ignore,
        kwargs=kwargs,
        layout=arguments.layout,
    )
    outcome = dataclasses.replace(outcome, about={**outcome.about, **about})
    title = f"{arguments.torch} and {arguments.ours or arguments.model}"
    if arguments.json:
        Path(arguments.json).write_text(outcome.to_json())
    if arguments.html:
        Path(arguments.html).write_text(outcome.to_html(title))
    with ClosableOutput():
        print(outcome.to_text())
    return 0 if outcome.equal else 1


def _check_flags(arguments: argparse.Namespace) -> None:
    if not arguments.ours:
        return
    for flag in ("reference", "num_classes", "channels", "field"):
        if getattr(arguments, flag):
            raise ValueError(
                f"--{flag.replace('_', '-')} describes a network of --model: remove it, and set "
                f"the fields in {arguments.ours}."
            )
    if not arguments.inputs:
        raise ValueError(
            "expected --inputs FILE.npz, because only the inputs of --model are known to be "
            "images. Write the file with `numpy.savez`."
        )


def _create(arguments: argparse.Namespace, state: dict[str, Any]) -> nn.Module:
    """Create the network of --model, with the number of classes of the PyTorch module."""
    arguments.reference = arguments.reference or "pytorch"
    if arguments.num_classes is None:
        arguments.num_classes = checkpoint_num_classes(state, create(arguments), PYTORCH)
    return create(arguments)
