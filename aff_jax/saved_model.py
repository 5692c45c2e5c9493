"""The result of reading a model file."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from aff_jax.images.image_task import ImageTask

__all__ = ["SavedModel"]


class SavedModel(tuple[nn.Module, dict[str, Any]]):
    """A model and its variables, and what its file says about both.

    It is a pair, so that `model, variables = aff_jax.load(path)` works.

    Attributes:
        model: The model.
        variables: Its variables.
        image_task: The images that the model reads and the classes that it predicts. None if the
            file does not have them.
        origin: Where the variables come from: the config of the run, its step, and versions. It is
            empty if the file does not say so.
    """

    model: nn.Module
    variables: dict[str, Any]
    image_task: ImageTask | None
    origin: Mapping[str, Any]

    def __new__(
        cls,
        model: nn.Module,
        variables: dict[str, Any],
        image_task: ImageTask | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> "SavedModel":
        """Make the pair."""
        self = super().__new__(cls, (model, variables))
        self.model, self.variables = model, variables
        self.image_task, self.origin = image_task, dict(origin or {})
        return self
