"""The label of what is not counted."""

__all__ = ["IGNORE_LABEL"]

IGNORE_LABEL = -1
"""The label of a pixel or an image that neither the loss nor a metric counts. It is no class."""
