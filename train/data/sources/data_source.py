"""Random access to the examples of one split: decoded, resized, and cached in memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
from PIL import Image

from aff_jax.images.image_files import PILLOW_MODES, decode_image
from aff_jax.images.image_task import ImageTask
from aff_jax.images.resizing import IMAGE_FILTER, MASK_FILTER, RESIZE_RATIO
from train.data.sources.class_table import IGNORED_VALUE, ClassTable
from train.data.sources.datasets import DEFAULT_MEAN, DEFAULT_STD
from train.data.sources.encoded_examples import EncodedExamples
from train.data.sources.mask_files import decode_mask, mask_labels
from train.data.sources.random_crop import CROP_AREAS, random_box

__all__ = ["Source"]


class Source:
    """A random-access data source over one split, as Grain defines it.

    Element i is::

        {"image": uint8 (height, width, channels), "label": int32, "index": int64 ()}

    The image is read-only and `index` is i. Labels have the shape `label_shape`. Pixels that a mask
    ignores have the label `IGNORED_LABEL`. Several threads may read at the same time. A source
    that is unpickled opens its files again and starts with an empty cache.

    Attributes:
        image_task: What a network that is trained on the examples reads and predicts.
        mask_classes: Name of the class of each value of the masks, or of each color as `#rrggbb`;
            {} for classification.
        image_shape: (height, width, channels) of every image.
        label_shape: () for classification, (height, width) for segmentation.
        class_names: Names of the classes.
        num_classes: Number of classes.
        ignored_pixels: Values or colors of mask pixels that are ignored, as texts.
        mean: Mean of the pixels divided by 255, per channel.
        std: Standard deviation of the pixels divided by 255, per channel.

    Args:
        encoded: The encoded examples.
        mean: Mean of the dataset, per channel. If it does not have one number for each channel of
            the images, `DEFAULT_MEAN` is used.
        std: Standard deviation of the dataset, per channel, or `DEFAULT_STD` in the same way.
        image_size: (height, width) to which images are resized; None keeps their size.
        resize: How images with another aspect ratio are resized, a name in
            `aff_jax.images.resizing.RESIZES`.
        image_channels: 1 converts images to gray, 3 to color; 0 keeps their channels.
        crop_scale: Smallest and largest share of an image's area in a random crop.
        cache_bytes: Cache the decoded examples if all of them take at most this many bytes.

    Raises:
        IndexError: If the position is outside the split.
        ValueError: If an image or a mask cannot be read or does not match the other, or images have
            different sizes or channels and none was chosen.
    """

    def __init__(
        self,
        encoded: EncodedExamples,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        *,
        image_size: tuple[int, int] | None = None,
        resize: str = "crop",
        image_channels: int = 0,
        crop_scale: tuple[float, float] = CROP_AREAS,
        cache_bytes: int = 0,
    ) -> None:
        self._rebuild = functools.partial(
            Source,
            mean=mean,
            std=std,
            image_size=image_size,
            resize=resize,
            image_channels=image_channels,
            crop_scale=crop_scale,
            cache_bytes=cache_bytes,
        )
        _check_one_shape(encoded, image_size, image_channels)
        self._encoded = encoded
        self._resizes = image_size is not None
        self._crop_scale = crop_scale
        channels = image_channels or encoded.image_shape[-1]
        self.image_task = ImageTask(
            task="segmentation" if encoded.is_mask else "classification",
            class_names=encoded.class_names,
            image_size=image_size or encoded.image_shape[:2],
            channels=channels,
            # The dataset's statistics belong to its stored channels.
            mean=mean if len(mean) == channels else DEFAULT_MEAN[channels],
            std=std if len(std) == channels else DEFAULT_STD[channels],
            resize=resize,
            # Pixels at the border have labels too, so a mask loses only the pixels outside of the
            # crop.
            crop_ratio=1.0 if encoded.is_mask else RESIZE_RATIO,
            use_exif_orientation=encoded.use_exif_orientation,
            class_colors=encoded.class_colors,
            mask_values=_mask_values(encoded.class_table),
        )
        self.mask_classes = encoded.class_table.describe() if encoded.class_table else {}
        self.ignored_pixels = encoded.class_table.ignored() if encoded.class_table else []
        self.image_shape: tuple[int, ...] = self.image_task.input_shape
        self.label_shape: tuple[int, ...] = self.image_task.image_size if encoded.is_mask else ()
        self.class_names = self.image_task.class_names
        self.num_classes = self.image_task.num_classes
        self.mean, self.std = self.image_task.mean, self.image_task.std

        # The operating system allocates the pages of `np.empty` when they are first written, so the
        # cache uses memory only as it fills.
        self._cache: np.ndarray | None = None
        label_dtype = np.dtype(np.uint8 if encoded.is_mask else np.int32)
        example_bytes = math.prod(self.image_shape)
        if encoded.is_mask:
            example_bytes += math.prod(self.label_shape)
        if len(self) * example_bytes <= cache_bytes:
            self._cache = np.empty((len(self), *self.image_shape), np.uint8)
            self._cached_labels = np.empty((len(self), *self.label_shape), label_dtype)
            self._is_cached = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, position: SupportsIndex) -> dict[str, Any]:
        # Indexing a range resolves negative positions and raises IndexError.
        position = range(len(self))[position]
        if self._cache is None:
            image, label = self._read(position)
        else:
            if not self._is_cached[position]:
                # Two threads may do this at the same time. They write the same values.
                self._cache[position], self._cached_labels[position] = self._read(position)
                self._is_cached[position] = True
            image, label = self._cache[position], self._cached_labels[position]
        image.flags.writeable = False
        label = mask_labels(label) if self._encoded.is_mask else np.int32(label)
        return {"image": image, "label": label, "index": np.int64(position)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def decode(self, position: int) -> tuple[Image.Image, Image.Image | int]:
        """Decode an image and its label without resizing.

        Args:
            position: Position of the example.

        Returns:
            A tuple of a Pillow image and its class number; for segmentation, of two Pillow images,
            the image and its mask.

        Raises:
            ValueError: If the image or the mask cannot be read, or they do not match.
        """
        encoded = self._encoded[position]
        image = decode_image(
            encoded.image,
            self.image_shape[-1],
            encoded.image_origin,
            self._encoded.use_exif_orientation,
        )
        table = self._encoded.class_table
        if isinstance(encoded.label, bytes) and table is not None:
            shape = (image.height, image.width)
            mask = decode_mask(encoded.label, shape, table, encoded.label_origin)
            return image, Image.fromarray(mask)
        return image, int(encoded.label)

    def random_crop(self, position: int, rng: np.random.Generator) -> dict[str, Any]:
        """Crop a random rectangle of an example, and resize it to the size of the images.

        Args:
            position: Position of the example.
            rng: Random generator of the rectangle.

        Returns:
            The example as in `__getitem__`. It is not cached.

        Raises:
            ValueError: If no `image_size` was chosen.
        """
        if not self._resizes:
            raise ValueError(
                f"expected an image_size for random crops of {self._encoded.name}, got none. Set "
                f"--config.image_size, for example to 224."
            )
        image, label = self.decode(position)
        height, width = self.image_task.image_size
        box = random_box(rng, *image.size, self._crop_scale, width / height)
        # `resize(..., box=box)` would read pixels outside the box at its borders.
        pixels = np.array(image.crop(box).resize((width, height), IMAGE_FILTER))
        example = {"image": pixels.reshape(self.image_shape), "index": np.int64(position)}
        if isinstance(label, Image.Image):
            mask = np.array(label.crop(box).resize((width, height), MASK_FILTER))
            return {**example, "label": mask_labels(mask)}
        return {**example, "label": np.int32(label)}

    @property
    def class_counts(self) -> np.ndarray | None:
        """Return the number of labels of each class, int64 (classes,); None if not known.

        For segmentation these are the pixels of the masks in their own size.
        """
        return self._encoded.class_counts

    @property
    def nbytes(self) -> int:
        """Return the size of all decoded and resized images and labels in bytes."""
        label_bytes = 4 * math.prod(self.label_shape)
        return len(self) * (math.prod(self.image_shape) + label_bytes)

    def _read(self, position: int) -> tuple[np.ndarray, Any]:
        image, label = self.decode(position)
        self._check_size(image, position)
        pixels = self.image_task.resize_image(image)
        if isinstance(label, Image.Image):
            return pixels, self.image_task.resize_mask(label, fill=IGNORED_VALUE)
        return pixels, label

    def _check_size(self, image: Image.Image, position: int) -> None:
        """Raise an error if an image that is not resized has another size than declared."""
        height, width = self.image_task.image_size
        if self._resizes or (image.height, image.width) == (height, width):
            return
        raise ValueError(
            f"expected images of {height} x {width} pixels, as {self._encoded.name} declares, got "
            f"{image.height} x {image.width} in {self._encoded[position].image_origin}. Probably "
            f"the shape in its builder is wrong: correct it, and raise VERSION. Or resize all "
            f"images with --config.image_size."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rebuild, (self._encoded,)


def _mask_values(table: ClassTable | None) -> tuple[int, ...]:
    """Return the value of each class in masks; () if it is the number of the class, or a color."""
    if table is None or table.by_color:
        return ()
    values = tuple(table.first_values())
    # Predicted masks have 8 bits.
    return () if values == tuple(range(len(values))) or max(values) > 255 else values


def _check_one_shape(
    encoded: EncodedExamples, image_size: tuple[int, int] | None, image_channels: int
) -> None:
    """Raise an error if images differ and no size or number of channels was chosen."""
    if encoded.mixed_sizes and not image_size:
        raise ValueError(
            f"expected images of one size in {encoded.name}, got several: {encoded.mixed_sizes}. "
            f"Choose one, for example --config.image_size=224 or --config.image_size='(240, 320)'."
        )
    if image_channels not in (0, *PILLOW_MODES):
        raise ValueError(f"expected image_channels of 0, 1 or 3, got {image_channels}.")
    if encoded.mixed_channels and not image_channels:
        raise ValueError(
            f"expected images that are all gray or all in color in {encoded.name}, got both: "
            f"{encoded.mixed_channels}. Choose one: --config.image_channels=3 converts all to "
            f"color, 1 all to gray."
        )
