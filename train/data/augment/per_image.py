"""A change of its own for every image of a batch, whatever devices share the batch.

Within a batch, image i draws from the key folded with its row in the *global* batch,
`first_row + i`, so the outcome does not depend on how many devices there are. Under a mapped axis,
over B images a device,

    first_row = jax.lax.axis_index(axis_name) * B
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Key, Shaped

__all__ = ["Images", "each_image", "row_keys"]

Images = Shaped[Array, "batch height width channels"]


def row_keys(key: Key[Array, ""], images: Images, first_row: ArrayLike) -> Key[Array, " batch"]:
    """A key for each image: `fold_in(key, first_row + i)`."""
    rows = first_row + jnp.arange(len(images))
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)


def each_image(change: Callable[..., Array], images: Images, *drawn: Any) -> Images:
    """`change(image, *drawn)` of each image and what was drawn for it; shape as `change` gives it.

    `change` may choose between operations with `jax.lax.switch`. A vectorized `switch` computes all
    of them and keeps one, which suits an accelerator. A CPU takes the images one after another and
    computes what was chosen only.
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
