"""The task of a network for images: size, channels, normalization and classes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from aff_jax.images.class_colors import default_class_colors
from aff_jax.images.normalization import ArrayType, normalize_pixels

if TYPE_CHECKING:  # The library can be imported without Pillow.
    from PIL import Image

    from aff_jax.images.resizing import Placement

__all__ = ["RESIZE_NAMES", "TASKS", "ImageTask"]

TASKS = ("classification", "segmentation")
"""One class per image, or one class per pixel."""

RESIZE_NAMES = ("crop", "pad", "stretch")
"""The keys of `aff_jax.images.resizing.RESIZES`, which needs Pillow."""


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """The images that a network reads, and the classes that it predicts.

    `preprocess` converts any image to the input of the network::

        x = (pixels / 255 - mean) / std

    where pixels are the values of the image after it was resized as `resize` says.

    Attributes:
        task: "classification" or "segmentation".
        class_names: Names of the classes, in the order of the network's outputs.
        image_size: (height, width) of the network's input in pixels.
        channels: 1 for gray images, 3 for color.
        mean: Mean of the pixels divided by 255, per channel.
        std: Standard deviation of the pixels divided by 255, per channel.
        resize: How images of other sizes are brought to `image_size`, a name in
            `aff_jax.images.resizing.RESIZES`.
        crop_ratio: For "crop", the size before the crop divided by `image_size`.
        use_exif_orientation: Whether photographs are rotated by their EXIF orientation.
        class_colors: For segmentation, the color in which each class is drawn, as `#rrggbb`. The
            default is `default_class_colors`.
        mask_values: For segmentation, the value of each class in the masks of the dataset. The
            default is the number of the class.

    Raises:
        ValueError: If a value is invalid. The message names the field.
    """

    task: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "crop"
    crop_ratio: float = 1.0
    use_exif_orientation: bool = True
    class_colors: tuple[str, ...] = ()
    mask_values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("class_names", "image_size", "mean", "std", "class_colors", "mask_values"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        self._check()
        if self.task == "segmentation":
            colors = self.class_colors or default_class_colors(self.class_names)
            object.__setattr__(self, "class_colors", tuple(colors))
            values = self.mask_values or range(self.num_classes)
            object.__setattr__(self, "mask_values", tuple(values))

    def _check(self) -> None:
        """Raise an error that names the first field with an impossible value."""
        classes = len(self.class_names)
        # Masks have 8 bits, and one value is left for pixels without a class.
        fits_masks = self.task != "segmentation" or classes <= 255
        checks = {
            "task": (self.task in TASKS, " or ".join(TASKS)),
            "class_names": (
                classes > 0 and fits_masks,
                "at least one name, and at most 255 for segmentation",
            ),
            "image_size": (
                len(self.image_size) == 2 and min(self.image_size) > 0,
                "(height, width) in pixels",
            ),
            "channels": (self.channels in (1, 3), "1 or 3"),
            "mean": (len(self.mean) == self.channels, f"{self.channels} numbers"),
            "std": (
                len(self.std) == self.channels and min(self.std, default=0) > 0,
                f"{self.channels} positive numbers",
            ),
            "resize": (self.resize in RESIZE_NAMES, ", ".join(RESIZE_NAMES)),
            "crop_ratio": (self.crop_ratio >= 1, "at least 1"),
            "class_colors": (
                len(self.class_colors) in (0, classes) and all(map(_is_color, self.class_colors)),
                f"{classes} colors such as '#3f90da'",
            ),
            "mask_values": (
                len(self.mask_values) in (0, len(set(self.mask_values)))
                and len(self.mask_values) in (0, classes)
                and all(0 <= value <= 255 for value in self.mask_values),
                f"{classes} different values in 0 .. 255",
            ),
        }
        for name, (is_possible, expected) in checks.items():
            if not is_possible:
                raise ValueError(
                    f"ImageTask.{name}: expected {expected}, got {getattr(self, name)!r}."
                )

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return (height, width, channels) of the network's input, without the batch axis."""
        return (*self.image_size, self.channels)

    def preprocess(self, image: Any) -> Float[np.ndarray, "height width channels"]:
        """Convert an image to the input of the network.

        Args:
            image: A path, a Pillow image, or uint8 pixels `(height, width)`, `(height, width, 1)`
                or `(height, width, 3)`, of any size.

        Returns:
            float32 `(height, width, channels)`, resized and normalized.

        Raises:
            TypeError: If it is none of these.
            ValueError: If the file cannot be read, or an array has another dtype or shape.
            FileNotFoundError: If there is no such file.
        """
        return self.normalize(self.resize_image(self.open(image)))

    def open(self, image: Any) -> Image.Image:
        """Return an image with the channels of the network, in its own size.

        Args:
            image: As in `preprocess`.

        Returns:
            A Pillow image.

        Raises:
            TypeError: As in `preprocess`.
            ValueError: As in `preprocess`.
            FileNotFoundError: If there is no such file.
        """
        from aff_jax.images import image_files

        if isinstance(image, np.ndarray):
            return image_files.image_from_pixels(image, self.channels)
        return image_files.load_image(image, self.channels, self.use_exif_orientation)

    def place(self, size: tuple[int, int]) -> Placement:
        """Compute the placement of an image in the network's input.

        Args:
            size: (height, width) of the image.

        Returns:
            The placement.
        """
        from aff_jax.images import resizing

        return resizing.place(size, self.image_size, self.resize, self.crop_ratio)

    def resize_image(self, image: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
        """Resize an image to `image_size`. Padding is black.

        Args:
            image: A Pillow image, from `open`.

        Returns:
            uint8 `(height, width, channels)`.
        """
        from aff_jax.images import resizing

        placement = self.place((image.height, image.width))
        resized = resizing.resize_to_view(image, placement, self.image_size, resizing.IMAGE_FILTER)
        return np.array(resized).reshape(self.input_shape)

    def resize_mask(self, mask: Image.Image, fill: int) -> UInt8[np.ndarray, "height width"]:
        """Resize a mask to `image_size`, as its image is.

        Args:
            mask: A Pillow image of class numbers.
            fill: Value of the padding.

        Returns:
            uint8 `(height, width)`.
        """
        from aff_jax.images import resizing

        placement = self.place((mask.height, mask.width))
        resized = resizing.resize_to_view(
            mask, placement, self.image_size, resizing.MASK_FILTER, fill
        )
        return np.array(resized)

    def normalize(self, pixels: ArrayType) -> ArrayType:
        """Normalize pixels: `(pixels / 255 - mean) / std`.

        Args:
            pixels: uint8 `(..., channels)`, a NumPy or a JAX array. Inside of `jax.jit` the result
                is the same as in training, up to the last bit.

        Returns:
            float32 of the same shape and kind.

        Raises:
            ValueError: If the pixels have another dtype.
        """
        if pixels.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 pixels in 0 .. 255, got {pixels.dtype}. If they are divided by "
                f"255 or normalized already, pass the pixels of the image file."
            )
        return normalize_pixels(pixels, self.mean, self.std)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        Returns:
            Values by field name.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ImageTask:
        """Return the task with these fields, as `to_json` returned them.

        Args:
            fields: Values by field name.

        Returns:
            The task.

        Raises:
            ValueError: If a field is missing or unknown, or has an invalid value.
        """
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in {**fields}.items()
            }
            return cls(**values)
        except TypeError as error:  # a missing or unknown field
            raise ValueError(
                f"expected the fields of an ImageTask, got {sorted(fields)}: {error}"
            ) from error


def _is_color(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("#[0-9a-fA-F]{6}", text) is not None
