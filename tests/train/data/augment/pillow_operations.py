"""Pillow's color operations by their names in AutoAugment."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

PILLOW = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Solarize": ImageOps.solarize,
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
}


def in_pillow(operation, image, magnitude):
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    return np.asarray(operation(picture, magnitude)).reshape(image.shape)
