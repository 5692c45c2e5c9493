"""`aff-jax predict`: predict images with a saved network."""

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Callable
from os.path import expanduser
from pathlib import Path
from typing import Any

from aff_jax.cli.command_help import help_line
from aff_jax.cli.flag_values import positive
from aff_jax.prediction.predictor import BATCH_SIZE, Predictor

__all__ = ["add_parser", "predict", "predict_and_report"]


def add_parser(commands: Any, network: argparse.ArgumentParser) -> None:
    """Add the command to the parser of `aff-jax`.

    Args:
        commands: Subparsers of `aff-jax`.
        network: Not used: the saved file describes its network.
    """
    command = commands.add_parser("predict", help=help_line(predict))
    command.add_argument(
        "source",
        type=expanduser,
        help=".safetensors file written by python -m train.save_model, or hf://user/name",
    )
    command.add_argument(
        "images", type=_path, help="an image, or a folder with images at any depth"
    )
    command.add_argument(
        "--output", type=_path, required=True, help="folder to write: tables, masks, overlays"
    )
    command.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        help=f"images that are predicted at once; default: {BATCH_SIZE}",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the predictions in OUTPUT"
    )
    command.set_defaults(run=predict)


def predict(arguments: argparse.Namespace) -> int:
    """Predict the classes or the masks of images with a saved network.

    Args:
        arguments: Parsed flags of this command.

    Returns:
        Exit status 0, or 1 if some images could not be read.

    Raises:
        FileNotFoundError: If the source or the images are missing.
        FileExistsError: If the folder has predictions and `--overwrite` is not given.
        ImportError: If Pillow is not installed.
        ValueError: If the source is not a network for images, or there are no images.
    """
    _check_pillow()
    return predict_and_report(
        Predictor.load(arguments.source),
        arguments.images,
        arguments.output,
        network=str(arguments.source),
        overwrite=arguments.overwrite,
        batch_size=arguments.batch_size,
    )


def predict_and_report(
    predictor: Predictor,
    images: Path,
    output: Path,
    *,
    network: str,
    overwrite: bool,
    batch_size: int,
) -> int:
    """Predict images, and print the progress and the images that could not be read.

    Args:
        predictor: The network.
        images: An image file, or a folder with images.
        output: The folder to write.
        network: Name of the network.
        overwrite: Whether to replace the predictions in the folder.
        batch_size: Number of images that are predicted at once.

    Returns:
        Exit status 0, or 1 if some images could not be read.

    Raises:
        FileNotFoundError: If the images are missing.
        FileExistsError: If the folder has predictions, and `overwrite` is False.
        ValueError: If there are no images.
    """
    from aff_jax.prediction.drawing import cropped_value
    from aff_jax.prediction.prediction_files import predict_files

    with warnings.catch_warnings(record=True) as ignored:
        warnings.simplefilter("always")
        result = predict_files(
            predictor,
            images,
            output,
            network=network,
            overwrite=overwrite,
            batch_size=batch_size,
            on_progress=_progress(),
        )
    for warning in ignored:
        print(f"warning: {warning.message}", file=sys.stderr)
    for reason in result.unreadable.values():
        print(f"skipped: {reason}", file=sys.stderr)
    if result.cropped:
        print(
            f"{result.cropped} of the masks have pixels of the value "
            f"{cropped_value(predictor.image_task)}, which is not a class: the network reads only "
            f"the center of images of another shape. Train with --config.resize=pad."
        )
    total = result.predicted + len(result.unreadable)
    print(f"wrote the predictions of {result.predicted} of {total} images to {output}")
    return 1 if result.unreadable else 0


def _progress() -> Callable[[int, int], None]:
    """Return a function that prints the progress: in place in a terminal, otherwise each tenth."""
    tenths = 0

    def show(done: int, total: int) -> None:
        nonlocal tenths
        text = f"{done} of {total} images"
        if sys.stderr.isatty():
            print(f"\r{text}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif 10 * done // total > tenths:
            tenths = 10 * done // total
            print(text, file=sys.stderr, flush=True)

    return show


def _check_pillow() -> None:
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(
            "reading images needs Pillow. Install it with `pip install 'aff_jax[images]'`."
        )


def _path(text: str) -> Path:
    return Path(expanduser(text))
