"""Random changes that differ per image and do not depend on the number of devices.

Image i of a batch uses the key of the step folded with its row in the *global* batch,
`first_row + i`. With B images per device, under a mapped axis::

    first_row = jax.lax.axis_index(axis_name) * B
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Key, Shaped

__all__ = ["Images", "image_keys", "map_images"]

Images = Shaped[Array, "batch height width channels"]
"""A batch of images of any dtype."""


def image_keys(key: Key[Array, ""], images: Images, first_row: ArrayLike) -> Key[Array, " batch"]:
    """Derive a key for each image: `fold_in(key, first_row + i)`.

    Args:
        key: Key of the step.
        images: The images of this device.
        first_row: Row of the first image in the global batch.

    Returns:
        Keys, `(batch,)`.
    """
    rows = first_row + jnp.arange(len(images))
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)


def map_images(change: Callable[..., Array], images: Images, *drawn: Any) -> Images:
    """Compute `change(image, *drawn)` for each image, with the random numbers drawn for it.

    `change` may choose an operation with `jax.lax.switch`. Under `vmap`, `switch` computes all
    operations and selects one, which is fast on an accelerator. On a CPU `jax.lax.map` is used
    instead, which computes only the chosen operation, one image after the other.

    Args:
        change: A function of an image and its random numbers that returns an image.
        images: The images of this device.
        *drawn: Pytrees of random numbers, with a leading axis `(batch,)`.

    Returns:
        The changed images.
    """
    return cast(
        Array,
        jax.lax.platform_dependent(
            images,
            *drawn,
            cpu=lambda *batch: jax.lax.map(lambda row: change(*row), batch),
            default=jax.vmap(change),
        ),
    )
