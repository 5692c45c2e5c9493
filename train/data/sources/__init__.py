"""Datasets: `datasets.py` is the table; each dataset that TFDS does not have is a file here."""
