"""Draw predicted masks: as PNG files with a palette, over their images, and with a legend."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from aff_jax.images.class_colors import IGNORED_COLOR, colors_as_pixels
from aff_jax.images.image_task import ImageTask
from aff_jax.prediction.predictor import CROPPED

__all__ = ["cropped_value", "draw_legend", "draw_mask", "draw_overlay"]

_OPACITY = 0.5
"""Opacity of a mask over its image."""


def cropped_value(task: ImageTask) -> int:
    """Return the value in masks of the pixels that were cropped before the network.

    Args:
        task: The classes.

    Returns:
        The largest value that no class has: 255, unless the dataset has a class of this value.
    """
    return max({*range(256)} - {*task.mask_values})


def draw_mask(classes: UInt8[np.ndarray, "height width"], task: ImageTask) -> Image.Image:
    """Draw a mask as a picture with a palette, which has a value and a color for each class.

    Args:
        classes: Number of the class of each pixel, or `CROPPED`, which has `cropped_value`.
        task: The classes, their values and their colors.

    Returns:
        A Pillow image of mode "P" and the same size.
    """
    values = np.full(256, cropped_value(task))
    values[: task.num_classes] = task.mask_values
    palette = np.zeros((256, 3), np.uint8)
    palette[cropped_value(task)] = colors_as_pixels([IGNORED_COLOR])
    palette[[*task.mask_values]] = colors_as_pixels(task.class_colors)
    mask = Image.fromarray(values.astype(np.uint8)[classes])
    mask.putpalette(palette.tobytes())  # changes the mode to "P"
    return mask


def draw_overlay(
    image: Image.Image, classes: UInt8[np.ndarray, "height width"], task: ImageTask
) -> Image.Image:
    """Draw a mask over its image. Cropped pixels show the image alone.

    Args:
        image: The image.
        classes: Number of the class of each pixel, or `CROPPED`.
        task: The classes and their colors.

    Returns:
        A Pillow image of mode "RGB" and the same size.
    """
    colors = np.zeros((256, 3), np.uint8)
    colors[: task.num_classes] = colors_as_pixels(task.class_colors)
    image = image.convert("RGB")
    blended = Image.blend(image, Image.fromarray(colors[classes]), _OPACITY)
    return Image.composite(blended, image, Image.fromarray(classes != CROPPED))


def draw_legend(task: ImageTask) -> Image.Image:
    """Draw the colors and names of the classes, one line for each.

    Args:
        task: The classes and their colors.

    Returns:
        A Pillow image of mode "RGB".
    """
    font = ImageFont.load_default(size=16)
    line, margin = 26, 8
    width = max(font.getlength(_drawable(name)) for name in task.class_names)
    size = (round(width) + line + 3 * margin, line * task.num_classes + margin)
    legend = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(legend)
    for number, (name, color) in enumerate(zip(task.class_names, task.class_colors, strict=True)):
        top = margin + number * line
        box = (margin, top, margin + line, top + line - margin)
        draw.rectangle(box, fill=color, outline="black")
        draw.text((line + 2 * margin, top - 2), _drawable(name), fill="black", font=font)
    return legend


def _drawable(name: str) -> str:
    # The bitmap font of a Pillow without FreeType has the characters of Latin-1 only.
    return name.encode("latin-1", "replace").decode("latin-1")
