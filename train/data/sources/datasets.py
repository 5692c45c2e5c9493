"""The table of datasets: how each one is opened, and the statistics of its pixels.

CONTRIBUTING.md has the steps that add a dataset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from aff_jax.lookup import look_up

# Imported for their effect: TFDS registers a builder when its class is defined.
from train.data.sources import digit_scenes as digit_scenes
from train.data.sources import digits as digits
from train.data.sources.encoded_examples import EncodedExamples
from train.data.sources.folder_splits import SplitNames, find_image_splits, find_mask_splits
from train.data.sources.image_folder import open_image_folder
from train.data.sources.mask_folder import open_mask_folder
from train.data.sources.stop_sign import open_stop_sign
from train.data.sources.tfds_examples import open_tfds

__all__ = [
    "DATASETS",
    "DEFAULT_MEAN",
    "DEFAULT_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Dataset",
    "find_dataset",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, of pixels divided by 255."""

DEFAULT_MEAN = {1: (0.449,), 3: IMAGENET_MEAN}
DEFAULT_STD = {1: (0.226,), 3: IMAGENET_STD}
"""Statistics of datasets without their own, by number of channels.

They are ImageNet's, and for gray images the mean over its channels. They are constants and not
measured, so that a resumed run has the same ones. The network's first batch normalization corrects
a difference from the true statistics.
"""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One row of the table of datasets.

    Attributes:
        name: Name in configs, and in TFDS if it is a TFDS dataset.
        eval_split: Split for evaluation.
        train_split: Split for training.
        label_keys: Features that can be the label, the default one first.
        mean: Mean of the training pixels divided by 255, per channel; () is `DEFAULT_MEAN`.
        std: Standard deviation of the same pixels; () is `DEFAULT_STD`.
        task: "classification" for one label per image, "segmentation" for one per pixel.
        open: Function of (name, split, data_dir, label_key) that opens a split, as
            `open_tfds`.
        options: Arguments of `load_source` that `open` takes as well.
        find_splits: Function of data_dir that chooses the splits by what a user's folder has; None
            takes `eval_split`.
    """

    name: str
    eval_split: str
    train_split: str = "train"
    label_keys: tuple[str, ...] = ("label",)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: str = "classification"
    open: Callable[..., EncodedExamples] = open_tfds
    options: tuple[str, ...] = ()
    find_splits: Callable[[str | None], SplitNames] | None = None

    def split_names(self, data_dir: str | None) -> SplitNames:
        """Return the splits for evaluation and for the test.

        Args:
            data_dir: A user's folder, or the data directory of TFDS.

        Returns:
            The names of the splits.

        Raises:
            ValueError: If the only split for evaluation of a user's folder has no labels.
        """
        return self.find_splits(data_dir) if self.find_splits else SplitNames(self.eval_split)


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="digits",
            eval_split="test",
            # Over all pixels of the 1,437 training images, in float64. The tests measure it again.
            mean=(0.3058,),
            std=(0.3761,),
        ),
        Dataset(
            name="digit_scenes",
            eval_split="test",
            label_keys=("mask",),
            # Over the 1,000 training scenes. The tests measure it again.
            mean=(0.3068,),
            std=(0.1822,),
            task="segmentation",
        ),
        Dataset(
            name="cifar10",
            eval_split="test",
            # The statistics that open-aff uses for both CIFAR datasets.
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        Dataset(
            name="cifar100",
            eval_split="test",
            # 100 fine classes or 20 superclasses: accuracies of the two are not comparable.
            label_keys=("label", "coarse_label"),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        Dataset(
            name="imagenet2012",
            eval_split="validation",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        Dataset(
            name="stop_sign",
            eval_split="validation",
            label_keys=("mask",),
            # The images are photographs from the web, as in ImageNet.
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            task="segmentation",
            open=open_stop_sign,
        ),
        Dataset(
            name="image_folder",
            eval_split="validation",
            open=open_image_folder,
            options=("class_names",),
            find_splits=find_image_splits,
        ),
        Dataset(
            name="mask_folder",
            eval_split="validation",
            label_keys=("mask",),
            task="segmentation",
            open=open_mask_folder,
            options=("class_names", "ignored_values"),
            find_splits=find_mask_splits,
        ),
    )
}
"""The datasets by name. `--config.dataset` chooses one."""


def find_dataset(name: str) -> Dataset:
    """Look up a dataset in `DATASETS`.

    Args:
        name: Name of the dataset.

    Returns:
        Its row.

    Raises:
        ValueError: If there is no such dataset. The message suggests similar names.
    """
    return look_up(DATASETS, "dataset", name)
