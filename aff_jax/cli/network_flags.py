"""The flags that say which network is meant, and what commands check alike."""

import argparse
import ast
from pathlib import Path
from typing import Any

import flax.linen as nn

import aff_jax
from aff_jax.convert.rules import MXNET, PYTORCH
from aff_jax.inspection import Layer, Structure

__all__ = ["check_target", "classes_in", "create", "network_flags", "positive"]


def network_flags() -> argparse.ArgumentParser:
    """A parser to be a parent of those commands that make a network."""
    network = argparse.ArgumentParser(add_help=False)
    network.add_argument("--fusion", default="aff", help="a name of aff_jax.list_fusions()")
    network.add_argument(
        "--reference", help="paper, pytorch or mxnet; default: that of the weights, else paper"
    )
    network.add_argument(
        "--num-classes", type=positive, help="default: as in the checkpoint, or 1000"
    )
    network.add_argument(
        "--field", action="append", default=[], metavar="NAME=VALUE", help="another of the host"
    )
    return network


def create(arguments: argparse.Namespace, name: str | None = None) -> nn.Module:
    """The network of the flags; `name` stands in for its `--model`."""
    fields = dict(_field(text) for text in arguments.field)
    return aff_jax.create_model(
        name or arguments.model,
        fusion=arguments.fusion,
        reference=arguments.reference or "paper",
        num_classes=arguments.num_classes or 1000,
        **fields,
    )


def check_target(target: Path) -> None:
    """`FileNotFoundError` where there is no directory to write to."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: there is no directory {target.parent}.")


def positive(text: str) -> int:
    """The number in a flag that must be at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if equals:
            return name, value
        raise ValueError(f"expected --field NAME=VALUE, got {text!r}.") from None


def classes_in(arrays: dict[str, Any], model: nn.Module, from_mxnet: bool) -> int:
    """How many classes a checkpoint's head has; 1000 where it has none by that name."""
    framework = MXNET if from_mxnet else PYTORCH
    alone = Structure({(): Layer(model, 2)}, {})  # the head's name needs no more
    head = f"{framework.name_of(('head',), alone)}.weight"
    return int(arrays[head].shape[0]) if head in arrays else 1000
