"""Recorded outputs of open-aff's networks, and their weights.

`data/*.npz` were recorded with open-aff's PyTorch code, LAION-CLAP and 3D-Speaker (PyTorch 2.13),
`data/mxnet_*.npz` with open-aff's MXNet code (MXNet 1.9.1). Weights are not stored. Each one is
drawn by a rule that depends only on its name and shape, so the cases test names and layouts.
"""

import json
import zlib
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


class Case:
    """One recorded case: its arrays by name, its metadata, and the weights that it ran with."""

    def __init__(self, name):
        with np.load(DATA / f"{name}.npz") as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files if key != "meta"}
            self.meta = json.loads(str(arrays["meta"]))

    def __getitem__(self, key):
        return self.arrays[key]

    @property
    def weights(self):
        return {name: weight(name, tuple(shape)) for name, shape in self.meta["state"]}

    @property
    def image(self):
        return channels_last(draw(**self.meta["input"]))

    @property
    def inputs(self):
        """Return input x, and for fusions also y."""
        given = [self.meta["inputs"]["x"], self.meta["inputs"]["y"]]
        return [channels_last(draw(**each)) for each in given if each is not None]

    def starting_with(self, prefix):
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}


def weight(name, shape):
    normal = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape)
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        drawn = 1 + np.abs(normal)
    elif leaf in ("running_mean", "beta", "bias"):
        drawn = 0.1 * normal
    elif leaf == "gamma" or len(shape) == 1:
        drawn = 0.4 + 0.05 * normal
    else:
        drawn = normal * np.sqrt(1 / np.prod(shape[1:]))
    return drawn.astype(np.float32)


def draw(seed, shape, layout=None):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def channels_last(array):
    return np.moveaxis(array, 1, -1)
