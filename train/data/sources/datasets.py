"""Dataset name -> how it is opened, and what else the application knows of it.

A dataset is a TFDS dataset in ArrayRecord files, or a folder of the user's. Reading one needs no
TensorFlow; preparing one of TFDS's does, except for those that prepare themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from aff_jax.lookup import look_up

# Imported for their effect: defining a builder makes TFDS know its name.
from train.data.sources import digit_scenes as digit_scenes
from train.data.sources import digits as digits
from train.data.sources.folders import open_image_folder, open_mask_folder
from train.data.sources.prepared import open_or_prepare, open_prepared
from train.data.sources.records import Records
from train.data.sources.stop_sign import open_stop_sign

__all__ = ["DATASETS", "IMAGENET_MEAN", "IMAGENET_STD", "Dataset", "find_dataset"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Channel means and deviations of ImageNet's pixels / 255, as everybody uses them."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the application knows of one dataset.

    `open(name, split, data_dir, label_key)` opens the records of a split. `label_keys` are the
    features that may serve as the label, the usual one first. `mean` and `std` are per channel, of
    the training pixels divided by 255; () is `USUAL_MEAN` and `USUAL_STD`. `task` is
    "classification", one label an image, or "segmentation", one a pixel.
    """

    name: str
    train_split: str
    eval_split: str
    label_keys: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: str = "classification"
    open: Callable[[str, str, str | None, str], Records] = open_prepared


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="digits",
            train_split="train",
            eval_split="test",
            label_keys=("label",),
            # Over all pixels of the 1,437 training images / 255, in float64;
            # tests/train/data/sources/test_datasets.py measures them again.
            mean=(0.3058,),
            std=(0.3761,),
            open=open_or_prepare,
        ),
        Dataset(
            name="digit_scenes",
            train_split="train",
            eval_split="test",
            label_keys=("mask",),
            # Measured as for the digits, over the 1,000 training scenes.
            mean=(0.3068,),
            std=(0.1822,),
            task="segmentation",
            open=open_or_prepare,
        ),
        Dataset(
            name="cifar10",
            train_split="train",
            eval_split="test",
            label_keys=("label",),
            # As the authors of Attentional Feature Fusion normalize; so for both CIFARs.
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        Dataset(
            name="cifar100",
            train_split="train",
            eval_split="test",
            # 100 fine classes or 20 superclasses: two tasks, whose accuracies do not compare.
            label_keys=("label", "coarse_label"),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        Dataset(
            name="imagenet2012",
            train_split="train",
            eval_split="validation",
            label_keys=("label",),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        Dataset(
            name="stop_sign",
            train_split="train",
            eval_split="validation",
            label_keys=("mask",),
            # Photographs from the web, as ImageNet's are.
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            task="segmentation",
            open=open_stop_sign,
        ),
        Dataset(
            name="image_folder",
            train_split="train",
            eval_split="test",
            label_keys=("label",),
            open=open_image_folder,
        ),
        Dataset(
            name="mask_folder",
            train_split="train",
            eval_split="test",
            label_keys=("mask",),
            task="segmentation",
            open=open_mask_folder,
        ),
    )
}


def find_dataset(name: str) -> Dataset:
    """The row of `DATASETS` with that name; `ValueError` with the nearest names otherwise."""
    return look_up(DATASETS, "dataset", name)
