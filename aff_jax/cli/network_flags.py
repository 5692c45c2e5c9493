"""Flags and checks that several commands share."""

import argparse
import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn

import aff_jax
from aff_jax.convert.rules import Framework
from aff_jax.hosts.base import HEAD
from aff_jax.inspection import Layer, Structure

__all__ = [
    "channels_flag",
    "check_target",
    "checkpoint_num_classes",
    "create",
    "help_line",
    "image_size",
    "input_size_flag",
    "network_flags",
    "parse_renames",
    "positive",
    "rename_flag",
]

_PATTERN = "re:"
"""Prefix of a value of `--rename` that is a regular expression."""

_FIELDS_WITH_FLAGS = ("fusion", "reference", "num_classes")
"""Arguments of `create_model` that have flags of their own."""


def help_line(command: Callable[..., object]) -> str:
    """Return the first line of the docstring of a command.

    Args:
        command: The function that runs the command.

    Returns:
        The line, for `aff-jax --help`.
    """
    return (command.__doc__ or "").partition("\n")[0]


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


def rename_flag() -> argparse.ArgumentParser:
    """Return a parent parser with the flag `--rename`.

    Returns:
        A parser without `--help`, for `parents` of the parser of a command.
    """
    rename = argparse.ArgumentParser(add_help=False)
    rename.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a prefix of PyTorch's or MXNet's names, such as encoder.fuse=blend, or with "
        "re: what a regular expression matches, such as 're:enc.(\\d)=block\\1'; may be repeated",
    )
    return rename


def channels_flag() -> argparse.ArgumentParser:
    """Return a parent parser with the flag `--channels`."""
    channels = argparse.ArgumentParser(add_help=False)
    channels.add_argument(
        "--channels",
        type=positive,
        help="channels of the images; default: as in the PyTorch network, else 3",
    )
    return channels


def parse_renames(arguments: argparse.Namespace) -> dict[Any, str]:
    """Parse the flag `--rename`.

    Args:
        arguments: Parsed flags of `rename_flag`.

    Returns:
        New prefixes by old prefix or pattern, without final dots.

    Raises:
        ValueError: If a value is not of the form OLD=NEW.
    """
    renames: dict[str | re.Pattern[str], str] = {}
    for text in arguments.rename:
        is_pattern = text.startswith(_PATTERN)
        # A regular expression may have "=" itself.
        old, equals, new = text.rpartition("=") if is_pattern else text.partition("=")
        if not equals:
            raise ValueError(f"expected --rename OLD=NEW, got {text!r}.")
        if is_pattern:
            try:
                renames[re.compile(old.removeprefix(_PATTERN))] = new
            except re.error as error:
                raise ValueError(
                    f"--rename {text!r} is not a valid regular expression: {error}."
                ) from None
        else:
            renames[old.removesuffix(".")] = new.removesuffix(".")
    return renames


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


def check_target(target: Path, overwrite: bool) -> None:
    """Check that a file can be written.

    Args:
        target: Path of the file.
        overwrite: Whether the file may exist.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
        FileNotFoundError: If its directory is missing.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: no directory {target.parent}. Create it first.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} already exists; pass --overwrite to overwrite it.")


def positive(text: str) -> int:
    """Parse an integer of at least 1.

    Args:
        text: Value of a flag.

    Returns:
        The integer.

    Raises:
        ArgumentTypeError: If the text is not an integer of at least 1.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return number


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


def image_size(text: str) -> tuple[int, int]:
    """Parse the size of images, such as `224` or `240x320`.

    Args:
        text: Value of a flag: the side of a square, or height x width.

    Returns:
        (height, width).

    Raises:
        ArgumentTypeError: If it is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected 224 or 240x320 (height x width), got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if equals:
            return name, value
        raise ValueError(f"expected --field NAME=VALUE, got {text!r}.") from None


def checkpoint_num_classes(arrays: dict[str, Any], model: Any, framework: Framework) -> int:
    """Return the number of classes of a checkpoint.

    Args:
        arrays: Arrays of the checkpoint by name.
        model: The linen network, with any number of classes.
        framework: Framework whose names the checkpoint has.

    Returns:
        Size of the output of the head, or `model.num_classes` if the checkpoint has no head.
    """
    # The name of the head depends on the class of the network only, so no layers are needed.
    structure = Structure({(): Layer(model, 2)}, {})
    head = f"{framework.name_of((HEAD,), structure)}.weight"
    return int(arrays[head].shape[0] if head in arrays else model.num_classes)
