"""What is asked of a data set, wherever it lies: its examples as they are stored, by position."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Encoded", "Records"]


class Encoded(NamedTuple):
    """One example as it is stored.

    `image` is the bytes of an image file; `label` those of a mask, or a class number. `image_at`
    and `label_at` say where they are, as errors name them.
    """

    image: bytes
    label: bytes | int
    image_at: str
    label_at: str


class Records(Protocol):
    """The stored examples of one split; reading is safe from several threads, and it pickles.

    `name` is what errors call the split. `is_mask` says whether labels are masks, one class a
    pixel. `image_shape` is the (height, width, channels) of the images; where they differ,
    `mixed_sizes` or `mixed_channels` tells how and is "" otherwise, and that part of the shape
    means nothing. `upright` says whether images are to be turned as their EXIF orientation has it.
    """

    name: str
    class_names: tuple[str, ...]
    is_mask: bool
    image_shape: tuple[int, int, int]
    mixed_sizes: str
    mixed_channels: str
    upright: bool

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Encoded: ...
