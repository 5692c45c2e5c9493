"""`aff-jax compare`: compare a PyTorch network and a linen network."""

import argparse
import importlib.util
from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np

from aff_jax import parity
from aff_jax.cli.network_flags import (
    channels_flag,
    check_target,
    classes_in,
    create,
    help_line,
    parse_renames,
    positive,
    rename_flag,
)
from aff_jax.convert.channels import channels_in
from aff_jax.convert.prefixes import rename_prefixes
from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.weight_files import read_weights, unwrap_state_dict
from aff_jax.parity import report as parity_report

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
    command.add_argument("--model", required=True, help="a name of aff_jax.list_models()")
    command.add_argument("--checkpoint", type=expanduser, help="weights of the PyTorch module")
    command.add_argument("--input-size", type=positive, default=64, help="height and width")
    command.add_argument("--batch", type=positive, default=2, help="number of random images")
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
        ValueError: If the PyTorch module can't be created, or its weights do not match.
    """
    for file in (arguments.json, arguments.html):
        if file:
            check_target(Path(file))
    arguments.reference = arguments.reference or "pytorch"
    torch_module = _make_torch_module(arguments.torch, arguments.checkpoint)
    renames = parse_renames(arguments)
    state = unwrap_state_dict(torch_module.state_dict(), arguments.torch)
    state = rename_prefixes(state, renames)
    if arguments.num_classes is None:
        arguments.num_classes = classes_in(state, create(arguments), from_mxnet=False)
    model, size = create(arguments), arguments.input_size
    channels = arguments.channels or channels_in(state, model, PYTORCH)
    rng = np.random.RandomState(arguments.seed)
    images = rng.standard_normal((arguments.batch, size, size, channels)).astype(np.float32)
    outcome = parity.compare(
        torch_module,
        model,
        None,
        images,
        float64=arguments.float64,
        tolerance=arguments.tolerance,
        rename=renames,
    )
    print(parity_report.to_text(outcome))
    title = f"{arguments.torch} and {arguments.model}"
    if arguments.json:
        Path(arguments.json).write_text(parity_report.to_json(outcome))
    if arguments.html:
        Path(arguments.html).write_text(parity_report.to_html(outcome, title))
    return 0 if outcome.equal else 1


def _make_torch_module(text: str, checkpoint: str | None) -> Any:
    """Create the PyTorch module and load the checkpoint into it."""
    import torch

    make = _load_callable(text)
    try:
        module = make()
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"{text} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"{text}: expected a torch.nn.Module, got a {type(module).__name__}.")
    if checkpoint:
        arrays = read_weights(checkpoint)
        narrow = {k: v.astype(np.float32) if v.dtype.kind == "V" else v for k, v in arrays.items()}
        try:
            module.load_state_dict({k: torch.from_numpy(v) for k, v in narrow.items()})
        except RuntimeError as error:
            raise ValueError(f"{checkpoint} does not match {text}: {error}") from error
    return module


def _load_callable(text: str) -> Any:
    """Import a callable given as "file.py:name"."""
    file, _, name = text.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file) if file else None
    if spec is None or spec.loader is None or not Path(file).exists():
        raise ValueError(
            f"expected FILE.py:CALLABLE, a file and a function or class in it that returns the "
            f"PyTorch module, got {text!r}."
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"{file} raised {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{file} does not define {name!r}.")
    return getattr(module, name)
