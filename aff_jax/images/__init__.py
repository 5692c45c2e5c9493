"""Images: read files, resize and normalize them for a network."""

from aff_jax.images.image_task import ImageTask

__all__ = ["ImageTask"]
