"""Data sets: TFDS, folders of images, and those that need no download."""
