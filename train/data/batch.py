"""The format of a batch: the names, shapes and dtypes of its arrays."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Array

__all__ = ["IGNORED_LABEL", "Batch", "NumpyBatch"]

Batch = Mapping[str, Array]
"""A batch of examples by the name of the array.

`image` is uint8 `(batch, height, width, channels)`. `label` is int32 `(batch,)` for classification
or `(batch, height, width)` for segmentation. `index` is an integer `(batch,)`, the position of the
example in its split; no step reads it, but it tells which examples a feed has returned. In
evaluation, `is_example` is float32 `(batch,)`, 1 for examples and 0 for padding.
"""

NumpyBatch = dict[str, np.ndarray]
"""A `Batch` of NumPy arrays, before it is transferred to the devices."""

IGNORED_LABEL = -1
"""Label of a pixel or an image that the loss and the metrics ignore. It is not a class."""
