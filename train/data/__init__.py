"""Training data: datasets in `sources/`, augmentation in `augment/`, and feeds of batches.

`pipeline.py` makes the input pipeline of a config from a dataset, a feed of batches, and the
augmentation that runs inside the training step. `batch.py` describes the batches.
"""
