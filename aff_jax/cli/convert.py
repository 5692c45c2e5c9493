"""`aff-jax convert`: convert weight files of PyTorch and MXNet, and back to PyTorch."""

import argparse
from os.path import expanduser
from pathlib import Path
from typing import Any

import flax.linen as nn

import aff_jax
from aff_jax.cli.command_help import help_line
from aff_jax.cli.flag_values import positive
from aff_jax.cli.network_flags import create
from aff_jax.cli.renames import parse_renames, rename_flag
from aff_jax.convert.checkpoint_sizes import checkpoint_image_channels, checkpoint_num_classes
from aff_jax.convert.entries import UNREAD
from aff_jax.convert.prefixes import drop_ignored, rename_arrays, select_prefix
from aff_jax.convert.rules import MXNET, PYTORCH
from aff_jax.convert.weight_files import read_weights, type_of_weights, write_torch
from aff_jax.files.atomic_write import check_target
from aff_jax.files.file_types import detect_file_type
from aff_jax.files.safetensors import read_metadata, write_safetensors
from aff_jax.hosts.registry import REFERENCES
from aff_jax.inspection import count_parameters, example_images
from aff_jax.serialization import is_saved

__all__ = ["add_parser", "convert"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to the parser of `aff-jax`.

    Args:
        commands: Subparsers of `aff-jax`.
        network: Parent parser with the flags that describe a network.
    """
    parents = [network, rename_flag()]
    command = commands.add_parser("convert", parents=parents, help=help_line(convert))
    command.add_argument(
        "source",
        type=expanduser,
        help="weights of PyTorch (.pth, .pt, .safetensors) or MXNet (.params), or a file written "
        "by aff_jax.save",
    )
    command.add_argument(
        "target",
        type=expanduser,
        help=".safetensors file for aff_jax.load; from a file written by aff_jax.save, a PyTorch "
        "state dict (.pth, .pt, .safetensors)",
    )
    command.add_argument("--model", help="a name of aff_jax.list_models()")
    command.add_argument(
        "--prefix", default="", help="convert only the arrays whose names begin with this prefix"
    )
    command.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="drop an array that the network does not have, such as a buffer; * is any text, as in "
        "'*.position_ids'; may be repeated",
    )
    command.add_argument(
        "--channels",
        type=positive,
        help="channels of the images; default: as in the checkpoint. For another number, the "
        "first convolution is summed or repeated, as in timm",
    )
    command.add_argument("--overwrite", action="store_true", help="overwrite the target")
    command.set_defaults(run=convert)


def convert(arguments: argparse.Namespace) -> int:
    """Convert weights from PyTorch or MXNet for aff_jax.load, or back to PyTorch.

    Args:
        arguments: Parsed flags of this command.

    Returns:
        Exit status 0.

    Raises:
        FileExistsError: If the target exists and `--overwrite` is not given.
        FileNotFoundError: If the source or the directory of the target is missing.
        ValueError: If a flag is missing, unknown or superfluous, or the weights do not
            match the network.
    """
    source, target = Path(arguments.source), Path(arguments.target)
    check_target(target, arguments.overwrite)
    exists = source.is_file()
    if exists and detect_file_type(source) == "safetensors" and is_saved(read_metadata(source)):
        return _convert_to_torch(source, target, arguments)
    if target.suffix.lower() != ".safetensors":
        raise ValueError(
            f"{target}: expected a .safetensors file, which aff_jax.load reads. To write a "
            f"PyTorch state dict, pass a file written by aff_jax.save as the source."
        )
    if arguments.model is None:
        raise ValueError(f"expected --model: {source} does not describe its network.")
    arrays = select_prefix(read_weights(source), arguments.prefix)
    arrays = rename_arrays(drop_ignored(arrays, arguments.ignore), parse_renames(arguments))
    framework = MXNET if type_of_weights(source) == "mxnet" else PYTORCH
    if arguments.reference is None:
        arguments.reference = "mxnet" if framework is MXNET else "pytorch"
    if arguments.num_classes is None:
        arguments.num_classes = checkpoint_num_classes(arrays, create(arguments), framework)
    model = create(arguments)
    convert_arrays = (
        aff_jax.convert.from_mxnet if framework is MXNET else aff_jax.convert.from_torch
    )
    images = example_images(model, checkpoint_image_channels(arrays, model, framework))
    variables = convert_arrays(arrays, model, *images)
    if arguments.channels:
        variables = aff_jax.convert.adapt_channels(variables, arguments.channels)
    aff_jax.save(target, variables, model, overwrite=arguments.overwrite)
    count = count_parameters(variables["params"])
    print(f"{source} -> {target}: {arguments.model}, {count:,} parameters")
    print(f"reference {arguments.reference}, {_fusion_of(model)}")
    unread = variables.get(UNREAD, {})
    if unread:
        print(f"also saved {len(unread)} arrays that the network never reads:")
        print("\n".join(f"  {name}" for name in unread))
    return 0


def _convert_to_torch(source: Path, target: Path, arguments: argparse.Namespace) -> int:
    """Write the variables of a saved model as a file of PyTorch names."""
    for flag in ("model", "prefix", "ignore", "channels"):
        if getattr(arguments, flag):
            raise ValueError(f"{source} describes its network itself: remove --{flag}.")
    model, variables = aff_jax.load(source)
    arrays = aff_jax.convert.to_torch(variables, model, rename=parse_renames(arguments))
    if target.suffix.lower() in (".pth", ".pt"):
        write_torch(target, arrays, overwrite=arguments.overwrite)
    elif target.suffix.lower() == ".safetensors":
        write_safetensors(target, arrays, overwrite=arguments.overwrite)
    else:
        raise ValueError(f"{target}: expected a .pth, .pt or .safetensors file.")
    print(f"{source} -> {target}: {len(arrays)} arrays for PyTorch")
    expected = REFERENCES["pytorch"].get(getattr(model, "fusion", ""), {})
    fields = getattr(model, "fusion_fields", {})
    differing = {name: value for name, value in expected.items() if fields.get(name) != value}
    if differing:
        print(
            f"note: this network has {_fusion_of(model)}; open-aff's PyTorch code has {differing} "
            f"and computes other outputs with the same weights."
        )
    return 0


def _fusion_of(model: nn.Module) -> str:
    """Describe the fusion and the fields in which it differs from the paper's."""
    fields = dict(getattr(model, "fusion_fields", {}))
    return f"fusion {getattr(model, 'fusion', None)}" + (f" with {fields}" if fields else "")
