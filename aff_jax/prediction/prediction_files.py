"""Predict the images of a folder, and write what was predicted to files."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import NamedTuple

from PIL import Image

from aff_jax.files.atomic_write import name_in_write_errors
from aff_jax.images.image_folder import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, list_images
from aff_jax.images.image_task import ImageTask
from aff_jax.prediction.drawing import draw_legend, draw_mask, draw_overlay
from aff_jax.prediction.predictor import BATCH_SIZE, CROPPED, MaskPrediction, Predictor
from aff_jax.prediction.tables import CSV_FILE, JSON_FILE, PredictionTables

__all__ = ["LEGEND_FILE", "PredictedFiles", "predict_files"]

LEGEND_FILE = "legend.png"
"""Colors of the classes."""


class PredictedFiles(NamedTuple):
    """The result of `predict_files`.

    Attributes:
        predicted: Number of images with a prediction.
        unreadable: Reason by path of the images that could not be read.
        cropped: Number of masks with cropped pixels.
    """

    predicted: int
    unreadable: dict[str, str]
    cropped: int


def predict_files(
    predictor: Predictor,
    images: Path,
    output: Path,
    *,
    network: str,
    overwrite: bool = False,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> PredictedFiles:
    """Predict images, and write the predictions to a folder.

    The folder gets `predictions.csv` with one row for each image, and `predictions.json` with more
    detail. For segmentation it also gets `legend.png`, and for each image a mask in `masks/` and
    the image with its mask in `overlays/`, both in the size of the image. Masks are PNG files with
    the values that the masks of the training data have, and `cropped_value` for pixels that were
    cropped.

    Images that cannot be read are left out. The rows that were predicted are also written when an
    error or Ctrl-C ends the function early.

    Args:
        predictor: The network.
        images: An image file, or a folder with images at any depth.
        output: The folder to write. It is created.
        network: Name of the network in `predictions.json`.
        overwrite: Whether to remove the predictions that are in the folder.
        batch_size: Number of images that are predicted at once. As many are read ahead.
        on_progress: Called after each batch with the number of finished images and of all images.

    Returns:
        The number of predicted images, the images that could not be read, and the number of masks
        with cropped pixels.

    Raises:
        FileNotFoundError: If there is no such image or folder.
        FileExistsError: If the folder has predictions, and `overwrite` is False.
        ValueError: If the folder has no images or is the one to write, or the batch size is not
            positive.
        OSError: If a file cannot be written.
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch size of at least 1, got {batch_size}.")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"expected a folder to write, got the file {output}.")
    if (output / CSV_FILE).exists() and not overwrite:
        raise FileExistsError(
            f"{output} already has predictions. Choose another folder, or overwrite them: with "
            f"--overwrite, or overwrite=True in Python."
        )
    paths = _find_images(images, output)
    folder = images if images.is_dir() else images.parent
    names = _output_names([path.relative_to(folder) for path in paths])
    output.mkdir(parents=True, exist_ok=True)
    if (output / CSV_FILE).exists():
        _remove_predictions(output)
    if predictor.image_task.task == "segmentation":
        with name_in_write_errors(output / LEGEND_FILE):
            draw_legend(predictor.image_task).save(output / LEGEND_FILE)
    unreadable: dict[str, str] = {}
    predicted = cropped = 0
    with PredictionTables(output, predictor.image_task, network, unreadable) as tables:
        for batch in _read_batches(paths, batch_size, predictor.image_task):
            read = {path: image for path, image in batch.items() if not isinstance(image, str)}
            unreadable |= {str(path): x for path, x in batch.items() if isinstance(x, str)}
            predictions = predictor.predict_opened([*read.values()])
            for (path, image), prediction in zip(read.items(), predictions, strict=True):
                relative = path.relative_to(folder)
                files = {"image": relative.as_posix()}
                if isinstance(prediction, MaskPrediction):
                    files |= _write_masks(
                        output, names[relative], image, prediction, predictor.image_task
                    )
                    cropped += bool((prediction.classes == CROPPED).any())
                tables.write_row(files, prediction)
                predicted += 1
            on_progress(predicted + len(unreadable), len(paths))
    return PredictedFiles(predicted, unreadable, cropped)


def _find_images(images: Path, output: Path) -> list[Path]:
    """List the images, without those that an earlier call has written."""
    if not images.exists():
        raise FileNotFoundError(f"expected an image or a folder of images, found no {images}.")
    if not images.is_dir():
        return [images]
    if images.resolve() == output.resolve():
        raise ValueError(
            f"expected another folder for the predictions than for the images, got {output} for "
            f"both. Choose for example {output / 'predicted'}."
        )
    # Images of other formats are predicted if Pillow reads them, and else named.
    suffixes = (*IMAGE_SUFFIXES, *OTHER_IMAGE_SUFFIXES)
    paths = [Path(path) for path in list_images(images, output, suffixes, broken_links=True)]
    if not paths:
        raise ValueError(f"expected images ({', '.join(IMAGE_SUFFIXES)}) in {images}, got none.")
    return paths


def _output_names(paths: Sequence[PurePath]) -> dict[PurePath, str]:
    """Return the name of the mask of each image, a different one for each.

    `a.jpg` has the mask `a.png`. If there is another image `a.tif`, it is `a.jpg.png`.
    """
    stems = Counter(path.with_suffix("") for path in paths)
    names: dict[PurePath, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = path.with_suffix("")
        name = (stem if stems[stem] == 1 else path).as_posix()
        while f"{name}.png" in taken:  # of another image, such as a.jpg.png
            name += "_"
        names[path] = f"{name}.png"
        taken.add(names[path])
    return names


def _remove_predictions(output: Path) -> None:
    """Remove the files that an earlier call has written and listed."""
    try:
        rows = json.loads((output / JSON_FILE).read_text())["images"]
        listed = [output / row[kind] for row in rows for kind in ("mask", "overlay") if kind in row]
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        listed = []
    inside = output.resolve()
    for path in (*listed, *(output / name for name in (CSV_FILE, JSON_FILE, LEGEND_FILE))):
        parents = path.resolve().parents
        if inside in parents:  # not where an edited file leads
            path.unlink(missing_ok=True)
            for folder in itertools.takewhile(lambda parent: parent != inside, parents):
                with contextlib.suppress(OSError):  # it has other files, or is gone
                    folder.rmdir()


def _read_batches(
    paths: Sequence[Path], batch_size: int, task: ImageTask
) -> Iterator[dict[Path, Image.Image | str]]:
    """Yield images by path, or the reason why one cannot be read."""

    def read(path: Path) -> Image.Image | str:
        try:
            return task.open(path)
        except (OSError, ValueError) as error:
            return str(error)

    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor() as pool:
        following = pool.map(read, batches[0])
        for batch, after in itertools.zip_longest(batches, batches[1:], fillvalue=()):
            images, following = following, pool.map(read, after)  # reads while the network runs
            yield dict(zip(batch, images, strict=True))


def _write_masks(
    output: Path, name: str, image: Image.Image, prediction: MaskPrediction, task: ImageTask
) -> dict[str, str]:
    """Write the mask and the overlay of an image, and return their paths relative to `output`."""
    drawn = {
        "mask": (Path("masks", name), draw_mask(prediction.classes, task)),
        "overlay": (Path("overlays", name), draw_overlay(image, prediction.classes, task)),
    }
    for path, picture in drawn.values():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        with name_in_write_errors(output / path):
            picture.save(output / path)
    return {kind: path.as_posix() for kind, (path, _) in drawn.items()}
