"""Training data: `sources/` has the datasets, `augment/` the augmentation, `pipeline.py` both.

`pipeline.py` builds the input pipeline of a config from a dataset, a feed of batches, and the
augmentation that runs inside the training step.
"""
