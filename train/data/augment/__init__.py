"""Augmentation inside the jitted training step."""
