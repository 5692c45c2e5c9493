"""The flags that describe a network and its images."""

import argparse
import ast
from typing import Any

import flax.linen as nn

import aff_jax
from aff_jax.cli.flag_values import image_size, positive

__all__ = [
    "channels_flag",
    "create",
    "input_size_flag",
    "network_flags",
]

_FIELDS_WITH_FLAGS = ("fusion", "reference", "num_classes")
"""Arguments of `create_model` that have flags of their own."""


def network_flags() -> argparse.ArgumentParser:
    """Return a parent parser with the flags that describe a network.

    Returns:
        A parser without `--help`, for `parents` of the parser of a command.
    """
    network = argparse.ArgumentParser(add_help=False)
    network.add_argument("--fusion", default="aff", help="a name of aff_jax.list_fusions()")
    network.add_argument(
        "--reference",
        help="paper, pytorch or mxnet; default: the framework of the weights, else paper",
    )
    network.add_argument(
        "--num-classes",
        type=positive,
        help="default: as in the checkpoint, or else as in the network: 10 or 1000",
    )
    network.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="field of the network, such as width=4; may be repeated",
    )
    return network


def channels_flag() -> argparse.ArgumentParser:
    """Return a parent parser with the flag `--channels`."""
    channels = argparse.ArgumentParser(add_help=False)
    channels.add_argument(
        "--channels",
        type=positive,
        help="channels of the images; default: as in the PyTorch network, else 3",
    )
    return channels


def create(arguments: argparse.Namespace, name: str | None = None) -> nn.Module:
    """Create the network that the flags describe.

    Args:
        arguments: Parsed flags of `network_flags`.
        name: Name of the network. None uses the flag `--model`.

    Returns:
        The linen module.

    Raises:
        ValueError: If a name or a field is unknown, or a field has a value of a wrong type or its
            own flag.
    """
    fields = dict(_field(text) for text in arguments.field)
    for field in _FIELDS_WITH_FLAGS:
        if field in fields:
            flag = f"--{field.replace('_', '-')}"
            raise ValueError(f"--field={field}: expected {flag}={fields[field]}, its own flag.")
    if "name" in fields:
        raise ValueError("--field=name: the name of the network is not one of its fields.")
    try:
        return aff_jax.create_model(
            name or arguments.model,
            fusion=arguments.fusion,
            reference=arguments.reference or "paper",
            num_classes=arguments.num_classes,
            **fields,
        )
    except TypeError as error:
        raise ValueError(f"--field: {error}") from error


def input_size_flag(command: argparse.ArgumentParser, default: int | None) -> None:
    """Add the flag `--input-size`.

    Args:
        command: The parser of the command.
        default: Height and width without the flag. None takes the size from the source, if the
            source says it.
    """
    size = "as in the source, if it says which images its network reads"
    command.add_argument(
        "--input-size",
        type=image_size,
        default=default and (default, default),
        metavar="SIZE",
        help=f"size of the images, such as 224 or 240x320 (height x width); default: "
        f"{default or size}",
    )


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if equals:
            return name, value
        raise ValueError(f"expected --field NAME=VALUE, got {text!r}.") from None
