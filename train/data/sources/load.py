"""Load datasets by name: one split, or both, and check that they have the classes of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from aff_jax.images.image_folder import abbreviate
from aff_jax.lookup import unknown_name
from train.data.sources.data_source import Source
from train.data.sources.datasets import find_dataset
from train.data.sources.random_crop import CROP_AREAS

__all__ = ["check_same_classes", "load_source", "load_splits"]


def load_source(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    label_key: str = "",
    image_size: tuple[int, int] | None = None,
    resize: str = "crop",
    image_channels: int = 0,
    crop_scale: tuple[float, float] = CROP_AREAS,
    ignored_values: Sequence[int] = (),
    class_names: Sequence[str] = (),
    cache_bytes: int = 2**28,
) -> Source:
    """Open one split of a dataset.

    Args:
        name: A name in the table `DATASETS`.
        split: "train", "validation" or "test" for a user's folder; otherwise any split that TFDS
            understands, such as "train[:90%]".
        data_dir: A user's folder, or the data directory of TFDS; None is TFDS's default.
        label_key: Feature that is the label; "" is the default one of the dataset.
        image_size: (height, width) to which images are resized, in pixels; None keeps their size.
        resize: How images with another aspect ratio are resized, a name in
            `aff_jax.images.resizing.RESIZES`.
        image_channels: 1 converts images to gray, 3 to color; 0 keeps their channels.
        crop_scale: Smallest and largest share of an image's area in a random crop.
        ignored_values: Values of masks that are ignored besides 255, for a user's folder of masks.
        class_names: Names of the classes of a run, in their order. The dataset must have the same
            ones; () accepts any.
        cache_bytes: Decoded images are kept in memory after the first read if the whole split takes
            at most this many bytes. CIFAR with 147 MiB is cached with the default of 256 MiB,
            ImageNet is not.

    Returns:
        The examples of the split.

    Raises:
        ValueError: If there is no such dataset, split or label key, the images do not have one size
            and number of channels, or the classes are not `class_names`.
        FileNotFoundError: If the dataset is not prepared, or the user's folder does not exist.
    """
    dataset = find_dataset(name)
    label_key = label_key or dataset.label_keys[0]
    if label_key not in dataset.label_keys:
        raise ValueError(unknown_name(f"label key of {name!r}:", label_key, dataset.label_keys))
    if data_dir is not None:
        # A shell does not expand the "~" of `--data_dir=~/tfds`, and TFDS does not either.
        data_dir = os.path.expanduser(data_dir)
    if ignored_values and "ignored_values" not in dataset.options:
        raise ValueError(
            f"expected no ignored_values for {name!r}, got {tuple(ignored_values)}: only the masks "
            f"of 'mask_folder' have values to ignore."
        )
    options = {"class_names": tuple(class_names), "ignored_values": tuple(ignored_values)}
    encoded = dataset.open(
        name, split, data_dir, label_key, **{name: options[name] for name in dataset.options}
    )
    if class_names:
        where = f"{name!r} in {data_dir}" if data_dir else repr(name)
        check_same_classes(class_names, encoded.class_names, where)
    return Source(
        encoded,
        dataset.mean,
        dataset.std,
        image_size=image_size,
        resize=resize,
        image_channels=image_channels,
        crop_scale=crop_scale,
        cache_bytes=cache_bytes,
    )


def load_splits(name: str, **fields: Any) -> tuple[Source, Source]:
    """Open the training and the evaluation split of a dataset.

    Args:
        name: A name in the table `DATASETS`.
        **fields: The keyword arguments of `load_source`.

    Returns:
        A tuple of the training and the evaluation split.

    Raises:
        ValueError: If `load_source` raises it, or the images of the splits have different shapes.
        FileNotFoundError: If `load_source` raises it.
    """
    dataset = find_dataset(name)
    names = dataset.split_names(fields.get("data_dir"))
    train, evaluation = (
        load_source(name, split, **fields) for split in (dataset.train_split, names.evaluation)
    )
    if train.image_shape != evaluation.image_shape:
        raise ValueError(
            f"expected images of the same shape in both splits of {name!r}, got (height, width, "
            f"channels) = {train.image_shape} in training and {evaluation.image_shape} in "
            f"evaluation. Set --config.image_size or --config.image_channels to make them equal."
        )
    return train, evaluation


def check_same_classes(known: Sequence[str], found: Sequence[str], where: str) -> None:
    """Check that a dataset has the classes that a network was trained with, in their order.

    Args:
        known: Names of the classes of the network, in the order of its outputs.
        found: Names of the classes of the dataset.
        where: Where the second ones were found, for the error message.

    Raises:
        ValueError: If they differ. The message names the differences.
    """
    if tuple(known) == tuple(found):
        return
    moved = [
        f"{name!r} was class {number} and is class {found.index(name)}"
        for number, name in enumerate(known)
        if name in found and found.index(name) != number
    ]
    differences = {
        "missing": [repr(name) for name in known if name not in found],
        "new": [repr(name) for name in found if name not in known],
        "moved": moved,
    }
    if differences["missing"] or differences["new"]:
        del differences["moved"]  # follows from the others
    text = "; ".join(f"{kind}: {abbreviate(names)}" for kind, names in differences.items() if names)
    raise ValueError(
        f"expected the {len(known)} classes that this run was trained with, got {len(found)} in "
        f"{where}. {text[0].upper()}{text[1:]}. A prediction would have the wrong name. Probably "
        f"classes.txt, ignored_values or the folders of the classes were changed: undo that, or "
        f"train a new run in another --workdir."
    )
