"""`aff-jax export`: write a saved network as StableHLO, which runs without this library."""

import argparse
import json
from os.path import expanduser
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import aff_jax
from aff_jax.cli.command_help import help_line
from aff_jax.cli.network_flags import input_size_flag
from aff_jax.files.atomic_write import atomic_file, check_target
from aff_jax.hosts.registry import model_classes
from aff_jax.inference.stablehlo import PLATFORMS, save_stablehlo
from aff_jax.inspection import image_channels

__all__ = ["add_parser", "export"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to the parser of `aff-jax`.

    Args:
        commands: Subparsers of `aff-jax`.
        network: Not used: the saved file describes its network.
    """
    command = commands.add_parser("export", help=help_line(export))
    command.add_argument(
        "source",
        type=expanduser,
        help=".safetensors file written by aff_jax.save, or hf://user/name",
    )
    command.add_argument(
        "target",
        type=expanduser,
        help=".stablehlo file to write, for jax.export.deserialize",
    )
    command.add_argument(
        "--batch-size",
        type=_batch,
        default="symbolic",
        help="batch size, or symbolic (default) for any batch size",
    )
    input_size_flag(command, None)
    command.add_argument(
        "--platform",
        action="append",
        choices=sorted(PLATFORMS),
        help="platform to compile for; may be repeated; default: cpu, cuda and tpu",
    )
    command.add_argument("--overwrite", action="store_true", help="overwrite the target")
    command.set_defaults(run=export)


def export(arguments: argparse.Namespace) -> int:
    """Write a saved network as a StableHLO file, which runs in JAX without aff_jax.

    If the source says which images its network reads and which classes it predicts, as files of
    `python -m train.save_model` do, this is written beside the target as `.json`.

    Args:
        arguments: Parsed flags of this command.

    Returns:
        Exit status 0.

    Raises:
        FileExistsError: If the target exists and `--overwrite` is not given.
        FileNotFoundError: If the source or the directory of the target is missing.
        ValueError: If the extension of the target is not .stablehlo, or the source is not a
            network.
    """
    target = Path(arguments.target)
    if target.suffix != ".stablehlo":
        raise ValueError(f"{target}: expected the extension .stablehlo.")
    check_target(target, arguments.overwrite)
    saved = aff_jax.load(arguments.source)
    model, variables, task = saved.model, saved.variables, saved.image_task
    if type(model) not in model_classes():
        raise ValueError(
            f"{arguments.source}: expected a network of create_model, which takes images; got "
            f"{type(model).__name__}. Call aff_jax.inference.save_stablehlo with its inputs "
            f"instead."
        )
    task_file = target.with_suffix(".json")
    if task is not None:
        check_target(task_file, arguments.overwrite)
    size = arguments.input_size or (task and task.image_size)
    if not size:
        raise ValueError(
            f"expected --input-size, such as 224 or 240x320: {arguments.source} does not say which "
            f"images its network reads."
        )
    if task is not None and size != task.image_size:
        raise ValueError(
            f"expected the size that the network was trained with, --input-size="
            f"{'x'.join(map(str, task.image_size))}, got {'x'.join(map(str, size))}. Leave it out."
        )
    symbolic = arguments.batch_size == "symbolic"
    shape = (1 if symbolic else arguments.batch_size, *size, image_channels(variables))
    exported = save_stablehlo(
        target,
        model,
        variables,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        symbolic_batch=symbolic,
        platforms=arguments.platform or ("cpu", "cuda", "tpu"),
        overwrite=arguments.overwrite,
    )
    if task is not None:
        text = json.dumps(task.to_json(), indent=2) + "\n"
        with atomic_file(task_file, overwrite=arguments.overwrite) as partial:
            partial.write_text(text, encoding="utf-8")
    megabytes = target.stat().st_size / 1e6
    print(f"{arguments.source} -> {target}: {megabytes:.1f} MB for {', '.join(exported.platforms)}")
    if task is not None:
        print(f"{task_file}: classes, size and normalization of the images")
    print(f"{_shapes(exported.in_avals)} -> {_shapes(exported.out_avals)}")
    return 0


def _shapes(avals: Any) -> str:
    return ", ".join(aval.str_short() for aval in avals)


def _batch(text: str) -> int | str:
    if text == "symbolic" or (text.isdigit() and int(text) > 0):
        return text if text == "symbolic" else int(text)
    raise argparse.ArgumentTypeError(f"expected a number of at least 1 or symbolic, got {text!r}")
