"""The digits, prepared once for all tests, what was compiled for them, and small configs."""

import functools
import pathlib

import flax.linen as nn
import jax
import pytest
from rich.console import Console

from aff_jax import BatchNorm
from configs import digits
from tests.train.small_network import SmallNetwork
from train import run
from train.data import source
from train.parallel import AXIS
from train.precision import DTYPES


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A TFDS data directory that holds the prepared digits; tests only read it."""
    data_dir = tmp_path_factory.mktemp("tfds")
    source.load_source("digits", "train", data_dir=data_dir)
    return data_dir


@pytest.fixture(scope="session")
def digits_train(digits_dir: pathlib.Path) -> source.Source:
    """The 1,437 training digits."""
    return source.load_source("digits", "train", data_dir=digits_dir)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Compiled steps, kept for tests that start the same run again and for their subprocesses."""
    folder = tmp_path_factory.mktemp("compilation_cache")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


class PerPixel(nn.Module):
    """A small network that answers for each pixel."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.Conv(8, (3, 3))(images))
        return nn.Dense(self.num_classes)(x)


@pytest.fixture
def config(digits_dir):
    """Half a second of training: 14 steps, checkpoints at steps 6, 11 and 14."""
    config = digits.get_config()
    config.data_dir = str(digits_dir)
    config.fusion = "add"
    config.batch_size = 512
    config.epochs = 5.0
    config.eval_every_epochs = 2.0
    config.log_every_steps = 4
    config.learning_rate = 0.2
    return config


@pytest.fixture
def small_network(monkeypatch):
    """Runs have a network that compiles in a moment."""

    def make_model(config, num_classes):
        norm_axis = AXIS if config.sync_batch_norm else None
        norm = functools.partial(BatchNorm, axis_name=norm_axis)
        return SmallNetwork(num_classes, norm, DTYPES[config.dtype])

    monkeypatch.setattr(run, "make_model", make_model)


@pytest.fixture
def console():
    return Console(record=True, width=200, force_terminal=False)


@pytest.fixture
def scenes(digits_dir, monkeypatch):
    """Ten steps of segmentation, checkpoints at steps 5 and 10."""
    monkeypatch.setattr(run, "make_model", lambda config, num_classes: PerPixel(num_classes))
    config = digits.get_config()
    config.data_dir = str(digits_dir)
    config.dataset, config.label_key = "digit_scenes", "mask"
    config.batch_size, config.eval_batch_size = 200, 64
    config.crop_padding = 4
    config.epochs, config.eval_every_epochs, config.warmup_epochs = 2.0, 1.0, 0.0
    config.schedule, config.optimizer = "poly", "adagrad"
    return config
