"""The digits, prepared once for all tests, and what was compiled for them."""

import pathlib

import jax
import pytest

from train.data import source


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
