"""Predict the classes of images with a trained network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from aff_jax.images.image_task import ImageTask
from aff_jax.serialization import load

if TYPE_CHECKING:  # The library can be imported without Pillow.
    from PIL import Image

__all__ = ["BATCH_SIZE", "CROPPED", "ClassPrediction", "MaskPrediction", "Prediction", "Predictor"]

BATCH_SIZE = 16
"""Default number of images that are predicted at once."""

CROPPED = 255
"""Number in predicted masks of the pixels that were cropped before the network.

In the files of masks they have the value `aff_jax.prediction.drawing.cropped_value`.
"""


@dataclasses.dataclass(frozen=True)
class ClassPrediction:
    """The predicted class of an image.

    Attributes:
        class_names: Names of the classes.
        probabilities: Softmax of the network's outputs, float32 `(classes,)`.
    """

    class_names: tuple[str, ...]
    probabilities: Float[np.ndarray, " classes"]

    @property
    def class_number(self) -> int:
        """Return the number of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def class_name(self) -> str:
        """Return the name of the most probable class."""
        return self.class_names[self.class_number]

    @property
    def probability(self) -> float:
        """Return the probability of the most probable class."""
        return float(self.probabilities[self.class_number])


@dataclasses.dataclass(frozen=True)
class MaskPrediction:
    """The predicted class of each pixel of an image.

    Attributes:
        class_names: Names of the classes.
        classes: Number of the class of each pixel, uint8 `(height, width)` in the size of the
            image. It is `CROPPED` where the image was cropped before the network.
    """

    class_names: tuple[str, ...]
    classes: UInt8[np.ndarray, "height width"]

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of the pixels of each class, which add up to 1 with `CROPPED`."""
        counts = np.bincount(self.classes.reshape(-1), minlength=len(self.class_names))
        return {
            name: float(counts[number] / self.classes.size)
            for number, name in enumerate(self.class_names)
        }


Prediction = ClassPrediction | MaskPrediction
"""The prediction for one image: a class, or a class for each pixel."""


class Predictor:
    """A trained network and the images that it reads.

    The network computes::

        logits = model(variables, task.normalize(task.resize_image(image)))

    Probabilities are the softmax of the logits. Logits of pixels are resized to the image's own
    size before the class with the highest logit is chosen.

    For example::

        predictor = aff_jax.Predictor.load("mine.safetensors")
        prediction = predictor("photo.jpg")
        print(prediction.class_name, prediction.probability)

    Attributes:
        model: The network.
        variables: Its variables.
        image_task: The images that the network reads and the classes that it predicts.

    Args:
        model: The network, called as `model(images)`.
        variables: Its variables.
        image_task: The images that the network reads and the classes that it predicts.

    Raises:
        ValueError: If the outputs of the network do not have the shape of this task.
    """

    def __init__(
        self, model: nn.Module, variables: Mapping[str, Any], image_task: ImageTask
    ) -> None:
        self.model, self.variables, self.image_task = model, variables, image_task
        pixels = jax.ShapeDtypeStruct((1, *image_task.input_shape), np.uint8)
        found = jax.eval_shape(self._apply, variables, pixels).shape
        pixel_axes = image_task.image_size if image_task.task == "segmentation" else ()
        expected = (1, *pixel_axes, image_task.num_classes)
        if found != expected:
            raise ValueError(
                f"expected a network for {image_task.task} whose output for one image has the "
                f"shape {expected}, got {found} from {type(model).__name__}. Probably the image "
                f"task belongs to another network."
            )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Predictor:
        """Read a file of `python -m train.save_model`, or of `aff_jax.save` with an `image_task`.

        Args:
            path: Path of the file, or an address `hf://user/name`, as in `aff_jax.load`.

        Returns:
            The predictor.

        Raises:
            ValueError: If the file does not say which images the network reads, or `load` raises
                it.
            FileNotFoundError: If the file does not exist.
        """
        saved = load(path)
        if saved.image_task is None:
            raise ValueError(
                f"expected a file that says which images its network reads, got {path}, which has "
                f"the weights alone. Write it with `python -m train.save_model`, or pass "
                f"image_task=aff_jax.images.ImageTask(...) to aff_jax.save."
            )
        return cls(saved.model, saved.variables, saved.image_task)

    def __call__(self, image: Any) -> Prediction:
        """Predict one image.

        Args:
            image: A path, a Pillow image, or uint8 pixels `(height, width)` or
                `(height, width, 3)`, of any size.

        Returns:
            A `ClassPrediction` or a `MaskPrediction`.

        Raises:
            TypeError: If it is none of these.
            ValueError: If the file cannot be read, or an array has another dtype or shape.
            FileNotFoundError: If there is no such file.
        """
        (prediction,) = self.predict_batch([image])
        return prediction

    def predict_batch(self, images: Sequence[Any]) -> list[Prediction]:
        """Predict several images at once, which is faster than one after the other.

        Args:
            images: Images as in `__call__`, of any sizes. All of them are in memory at once.

        Returns:
            One prediction for each image.

        Raises:
            TypeError: As in `__call__`.
            ValueError: As in `__call__`.
            FileNotFoundError: As in `__call__`.
        """
        if isinstance(images, str | PathLike) or not isinstance(images, Iterable):
            raise TypeError(
                f"expected several images, got a {type(images).__name__}. Call predictor(image) to "
                f"predict one."
            )
        return self.predict_opened([self.image_task.open(image) for image in images])

    def predict_opened(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """Predict images that `image_task.open` has returned.

        Args:
            images: Pillow images with the channels of the network, of any sizes.

        Returns:
            One prediction for each image.
        """
        if not images:
            return []
        views = np.stack([self.image_task.resize_image(image) for image in images])
        return [
            self._prediction(logits, image)
            for logits, image in zip(self.logits(views), images, strict=True)
        ]

    def logits(
        self, pixels: UInt8[np.ndarray, "batch height width channels"]
    ) -> Float[np.ndarray, "batch ..."]:
        """Compute the outputs of the network for pixels in the size that it reads.

        Args:
            pixels: uint8 `(batch, height, width, channels)` in the size of the network's input.

        Returns:
            float32 `(batch, classes)`, or `(batch, height, width, classes)` for segmentation.
        """
        count = len(pixels)
        # The program is compiled again for each batch size, so there are only powers of two.
        padding = (1 << (count - 1).bit_length()) - count
        padded = np.concatenate([pixels, np.zeros((padding, *pixels.shape[1:]), np.uint8)])
        return np.asarray(self._compiled(self.variables, padded), np.float32)[:count]

    @functools.cached_property
    def _compiled(self) -> Any:
        return jax.jit(self._apply)

    def _apply(self, variables: Mapping[str, Any], pixels: Array) -> Any:
        return self.model.apply(variables, self.image_task.normalize(pixels))

    def _prediction(self, logits: np.ndarray, image: Image.Image) -> Prediction:
        image_task = self.image_task
        if image_task.task == "classification":
            return ClassPrediction(image_task.class_names, _softmax(logits))
        from aff_jax.images.resizing import classes_of_logits

        size = image.height, image.width
        classes = classes_of_logits(logits, image_task.place(size), size, cropped=CROPPED)
        return MaskPrediction(image_task.class_names, classes)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    probabilities: np.ndarray = exponentials / exponentials.sum()
    return probabilities
