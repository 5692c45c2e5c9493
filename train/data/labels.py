"""The label of ignored pixels and images."""

__all__ = ["IGNORE_LABEL"]

IGNORE_LABEL = -1
"""Label of a pixel or an image that the loss and the metrics ignore. It is not a class."""
