"""Prepared digits, small configs, and subprocesses of `python -m train`."""

import functools
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import flax.linen as nn
import pytest
from rich.console import Console

from aff_jax import BatchNorm
from configs import digits
from tests.train.small_network import SmallNetwork
from train import setup
from train.data.sources.data_source import Source
from train.data.sources.load import load_source
from train.steps.parallel import AXIS
from train.steps.precision import DTYPES


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """The user's cache directory of all tests, which is empty at the start."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("cache_home")
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield directory


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A TFDS data directory with the prepared digits. Tests may only read it."""
    data_dir = tmp_path_factory.mktemp("tfds")
    load_source("digits", "train", data_dir=data_dir)
    return data_dir


@pytest.fixture(scope="session")
def digits_train(digits_dir: pathlib.Path) -> Source:
    """The 1,437 training digits."""
    return load_source("digits", "train", data_dir=digits_dir)


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The compilation cache of the subprocesses. Some are killed while they write to it."""
    return tmp_path_factory.mktemp("compilation_cache")


OFFLINE = """
import sys

def refuse(event, arguments):
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    where = arguments[event == "socket.connect"]  # the first argument of connect is the socket
    host = where[0] if isinstance(where, tuple) else where
    if host not in ("localhost", "127.0.0.1", "::1"):
        print(f"tried to reach {host}", file=sys.stderr, flush=True)
        raise PermissionError(f"tried to reach {host}")

sys.addaudithook(refuse)
"""


@pytest.fixture(scope="session")
def command(digits_dir, compilation_cache, tmp_path_factory):
    """Return a function that starts `python -m train` on one device and without a network.

    Its arguments are flags. `program` replaces `-m train`, and `environment` adds variables.
    """
    offline = tmp_path_factory.mktemp("offline")
    (offline / "sitecustomize.py").write_text(OFFLINE)
    base_environment = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # a run of a few steps mostly compiles
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "PYTHONPATH": str(offline),
    }

    def start(*flags, program=("-m", "train"), environment=None):
        config = ("--config=configs/digits.py", f"--config.data_dir={digits_dir}")
        return subprocess.Popen(
            [sys.executable, *program, *config, *flags],
            cwd=pathlib.Path(__file__).parent.parent.parent,
            env={**base_environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def short_run():
    """Flags of a run of 43 steps that is evaluated and saved after steps 9, 17, 26, 34 and 43.

    An epoch has 29 steps of 50 examples, so these steps are in the middle of epochs. The small
    evaluation batches make an evaluation long enough to be interrupted.
    """
    return (
        "--config.fusion=add",
        "--config.batch_size=50",
        "--config.eval_batch_size=4",
        "--config.epochs=1.5",
        "--config.eval_every_epochs=0.3",
        "--config.log_every_steps=1",
        "--config.keep_checkpoints=9",
    )


@pytest.fixture(scope="session")
def undisturbed(command, short_run, tmp_path_factory):
    """The workdir of `short_run` without interruptions and without a network."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    out, err = (process := command(f"--workdir={workdir}", *short_run)).communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    assert "test accuracy" in out
    assert f"written to {workdir}" in out
    return workdir


class PerPixel(nn.Module):
    """A small network with an output per pixel."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.Conv(8, (3, 3))(images))
        return nn.Dense(self.num_classes)(x)


@pytest.fixture
def config(digits_dir):
    """A run of 14 steps with checkpoints at steps 6, 11 and 14; it trains for half a second."""
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
    """Replace the network of all configs by one that compiles fast."""

    def make_model(config, num_classes):
        norm_axis = AXIS if config.sync_batch_norm else None
        norm = functools.partial(BatchNorm, axis_name=norm_axis)
        return SmallNetwork(num_classes, norm, DTYPES[config.dtype])

    monkeypatch.setattr(setup, "make_model", make_model)


@pytest.fixture
def console():
    return Console(record=True, width=200, force_terminal=False)


@pytest.fixture
def scenes(digits_dir, monkeypatch):
    """A run of ten steps of segmentation with checkpoints at steps 5 and 10."""
    monkeypatch.setattr(setup, "make_model", lambda config, num_classes: PerPixel(num_classes))
    config = digits.get_config()
    config.data_dir = str(digits_dir)
    config.dataset, config.label_key = "digit_scenes", "mask"
    config.batch_size, config.eval_batch_size = 200, 64
    config.crop_padding = 4
    config.epochs, config.eval_every_epochs, config.warmup_epochs = 2.0, 1.0, 0.0
    config.schedule, config.optimizer = "poly", "adagrad"
    return config
