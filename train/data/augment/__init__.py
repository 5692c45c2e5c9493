"""Augmentation on the device, inside the jitted training step."""
