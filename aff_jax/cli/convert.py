"""`aff-jax convert`: weight files of PyTorch and MXNet to ours, and ours to PyTorch's."""

import argparse
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

import aff_jax
from aff_jax.cli.network_flags import check_target, classes_in, create
from aff_jax.convert.entries import UNREAD
from aff_jax.convert.weight_files import read_weights, write_torch
from aff_jax.files.safetensors import read_metadata, write_safetensors
from aff_jax.hosts.registry import REFERENCES
from aff_jax.serialization import is_saved

__all__ = ["add_parser"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to those of `aff-jax`; `network` has the flags that they share."""
    command = commands.add_parser("convert", parents=[network], help=convert.__doc__)
    command.add_argument("source", help=".pth, .pt, .safetensors, .params; or a file of ours")
    command.add_argument("target", help=".safetensors; from a file of ours also .pth, .pt")
    command.add_argument("--model", help="a name of aff_jax.list_models()")
    command.add_argument("--force", action="store_true", help="overwrite the target")
    command.set_defaults(run=convert)


def convert(arguments: argparse.Namespace) -> int:
    """A checkpoint of PyTorch or MXNet to ours, or ours to PyTorch's."""
    source, target = Path(arguments.source), Path(arguments.target)
    check_target(target)
    if target.exists() and not arguments.force:
        raise FileExistsError(f"{target} exists; give --force to overwrite it.")
    if source.suffix == ".safetensors" and is_saved(read_metadata(source)):
        return _convert_ours(source, target, arguments)
    if target.suffix != ".safetensors":
        raise ValueError(
            f"{target}: expected .safetensors, which is what aff_jax.load reads. To write for "
            f"PyTorch, give a file of aff_jax.save as the source."
        )
    if arguments.model is None:
        raise ValueError(f"expected --model: {source} does not say which network it is.")
    arrays = read_weights(source)
    from_mxnet = source.suffix == ".params"
    if arguments.reference is None:
        arguments.reference = "mxnet" if from_mxnet else "pytorch"
    if arguments.num_classes is None:
        arguments.num_classes = classes_in(arrays, create(arguments), from_mxnet)
    model = create(arguments)
    read = aff_jax.convert.from_mxnet if from_mxnet else aff_jax.convert.from_torch
    variables = read(arrays, model)
    aff_jax.save(target, variables, model, overwrite=arguments.force)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{source} -> {target}: {arguments.model}, {count:,} parameters")
    print(f"reference {arguments.reference}, {_fusion_of(model)}")
    unread = variables.get(UNREAD, {})
    if unread:
        print(f"kept, though the network never reads it ({len(unread)} arrays):")
        print("\n".join(f"  {name}" for name in unread))
    return 0


def _convert_ours(source: Path, target: Path, arguments: argparse.Namespace) -> int:
    if arguments.model is not None:
        raise ValueError(f"{source} says itself which network it is: leave --model out.")
    model, variables = aff_jax.load(source)
    arrays = aff_jax.convert.to_torch(variables, model)
    if target.suffix in (".pth", ".pt"):
        write_torch(target, arrays, overwrite=arguments.force)
    elif target.suffix == ".safetensors":
        write_safetensors(target, arrays, overwrite=arguments.force)
    else:
        raise ValueError(f"{target}: expected .pth, .pt or .safetensors to write for PyTorch.")
    print(f"{source} -> {target}: {len(arrays)} arrays for PyTorch")
    theirs = REFERENCES["pytorch"].get(getattr(model, "fusion", ""), {})
    ours = getattr(model, "fusion_fields", {})
    differing = {name: value for name, value in theirs.items() if ours.get(name) != value}
    if differing:
        print(
            f"note: this network has {_fusion_of(model)}; open-aff's PyTorch code computes with "
            f"{differing} and will give other numbers from the same weights."
        )
    return 0


def _fusion_of(model: nn.Module) -> str:
    """Its fusion and the fields of it that are not the paper's."""
    fields = dict(getattr(model, "fusion_fields", {}))
    return f"fusion {getattr(model, 'fusion', None)}" + (f" with {fields}" if fields else "")
