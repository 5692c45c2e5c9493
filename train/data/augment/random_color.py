"""Random changes of color: color jitter and PCA lighting.

Images are uint8 with the shape (batch, height, width, 3) for RGB or (batch, height, width, 1) for
gray. Each image of a batch has its own random numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from train.data.augment.color import Image, brightness, color, contrast
from train.data.augment.random_per_image import Images, image_keys, map_images

__all__ = ["color_jitter", "pca_lighting"]

_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * [55.46, 4.794, 1.148]
"""Principal components of ImageNet's colors, for pixels from 0 to 255.

Each column is an eigenvector times its eigenvalue. From Krizhevsky et al., 2012, section 4.1, with
the numbers of GluonCV.
"""


def color_jitter(
    key: Key[Array, ""], images: Images, strength: float, first_row: ArrayLike = 0
) -> Images:
    """Change the brightness, contrast and saturation of each image in a random order.

    Args:
        key: Key of the step.
        images: uint8 images.
        strength: Each factor is uniform in 1 - strength .. 1 + strength. GluonCV's ImageNet recipe
            has 0.4.
        first_row: Row of the first image in the global batch.

    Returns:
        uint8 images of the same shape.

    References:
        MXNet's RandomColorJitter, except its saturation, which uses only the blue term of the luma.
        The saturation here is Pillow's.
    """
    operations = (brightness, contrast, color)

    def draw(row_key: Key[Array, ""]) -> tuple[Int[Array, "3"], Float[Array, "3"]]:
        order_key, factor_key = jax.random.split(row_key)
        factors = jax.random.uniform(factor_key, (3,), jnp.float32, 1 - strength, 1 + strength)
        return jax.random.permutation(order_key, 3), factors

    def jitter(image: Image, order: Int[Array, "3"], factors: Float[Array, "3"]) -> Image:
        for operation, factor in zip(order, factors, strict=True):
            image = jax.lax.switch(operation, operations, image, factor)
        return image

    return map_images(jitter, images, *jax.vmap(draw)(image_keys(key, images, first_row)))


def pca_lighting(
    key: Key[Array, ""], images: Images, std: float, first_row: ArrayLike = 0
) -> Images:
    """Shift the pixels of each image along the principal components of ImageNet's colors.

    All pixels v of an image become, rounded to the nearest integer::

        v + sum_k eigenvector_k * eigenvalue_k * alpha_k,   alpha_k ~ N(0, std^2)

    Args:
        key: Key of the step.
        images: uint8 images with 3 channels.
        std: Standard deviation of alpha. GluonCV's ImageNet recipe has 0.1.
        first_row: Row of the first image in the global batch.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If the images do not have 3 channels.

    References:
        Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012, section 4.1.
    """
    if images.shape[-1] != 3:
        raise ValueError(
            f"expected images with 3 channels, red, green and blue, for pca_lighting, got "
            f"{images.shape[-1]}. It uses the principal components of ImageNet's colors: set "
            f"pca_lighting to 0."
        )
    normal = jax.vmap(lambda row_key: jax.random.normal(row_key, (3,), jnp.float32))
    alpha = std * normal(image_keys(key, images, first_row))
    # Use a sum instead of a matrix product, which a TPU would compute in bfloat16.
    shifts = jnp.sum(jnp.float32(_COMPONENTS) * alpha[:, None, :], axis=-1)
    shifted = images.astype(jnp.float32) + shifts[:, None, None, :]
    return jnp.clip(jnp.round(shifted), 0, 255).astype(jnp.uint8)
