"""The interface of stored datasets: examples as encoded bytes, read by position."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from train.data.sources.class_table import ClassTable

__all__ = ["EncodedExample", "EncodedExamples"]


class EncodedExample(NamedTuple):
    """One example as it is stored.

    Attributes:
        image: Bytes of an image file.
        label: Class number, or the bytes of a mask file.
        image_origin: Where the image comes from, for error messages.
        label_origin: Where the label comes from, for error messages.
    """

    image: bytes
    label: bytes | int
    image_origin: str
    label_origin: str


class EncodedExamples(Protocol):
    """The encoded examples of one split.

    Implementations can be pickled, and several threads may read at the same time. Those that
    inherit from this class have its defaults.

    Attributes:
        name: Name of the split, for error messages.
        class_names: Names of the classes, in the order of their numbers.
        is_mask: Whether labels are masks, with one class per pixel.
        image_shape: (height, width, channels) of the images. Where images differ, `mixed_sizes` or
            `mixed_channels` is set, and that entry of the shape is not used.
        mixed_sizes: Describes how the image sizes differ; "" if all images have the same size.
        mixed_channels: Describes how the channels differ; "" if all images have the same number.
        use_exif_orientation: Whether to rotate images by their EXIF orientation.
        class_table: Which class each value of a mask is; None for classification.
        class_colors: Color of each class as `#rrggbb`; () if it is not known.
    """

    name: str
    class_names: tuple[str, ...]
    is_mask: bool
    image_shape: tuple[int, int, int]
    mixed_sizes: str
    mixed_channels: str = ""
    use_exif_orientation: bool = False
    class_table: ClassTable | None = None
    class_colors: tuple[str, ...] = ()

    @property
    def class_counts(self) -> np.ndarray | None:
        """Return the number of labels of each class, int64 `(classes,)`; None if not known."""
        return None

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> EncodedExample: ...
