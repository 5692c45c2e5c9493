"""Fusions of two feature maps of the same shape."""
