"""Masks that have not changed are not read again."""

import os
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from tests.train.data.example_images import write_image
from train.data.sources import mask_cache
from train.data.sources.mask_cache import MaskCache
from train.data.sources.mask_files import MaskFacts, read_facts


@pytest.fixture
def mask(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A mask that was written long ago, in a folder whose cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "masks" / "a.png"
    write_image(path, np.array([[0, 1, 1]], np.uint8))
    os.utime(path, (10**9, 10**9))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The masks that were read from their files."""
    paths: list[str] = []

    def read(path: str) -> MaskFacts:
        paths.append(path)
        return read_facts(path)

    monkeypatch.setattr(mask_cache, "read_facts", read)
    return paths


def open_again(mask: pathlib.Path) -> MaskFacts:
    cache = MaskCache(mask.parent)
    facts = cache.read(str(mask))
    cache.save()
    return facts


def test_a_mask_is_read_once(mask: pathlib.Path, reads: list[str]) -> None:
    first, second = open_again(mask), open_again(mask)
    assert first == second
    assert second.counts == {0: 1, 1: 2}
    assert second.colors == {0: 0, 1: 0x010101}
    assert reads == [str(mask)]
    assert [path.name for path in mask.parent.iterdir()] == ["a.png"]  # nothing in the data


def newer(mask: pathlib.Path) -> None:
    os.utime(mask, (10**9 + 5, 10**9 + 5))


def larger(mask: pathlib.Path) -> None:
    write_image(mask, np.random.default_rng(0).integers(0, 9, (9, 9), np.uint8))
    os.utime(mask, (10**9, 10**9))


@pytest.mark.parametrize("change", [newer, larger])
def test_a_mask_that_changed_is_read_again(
    change: Callable[[pathlib.Path], None], mask: pathlib.Path, reads: list[str]
) -> None:
    open_again(mask)
    change(mask)
    assert open_again(mask) == read_facts(mask)
    assert len(reads) == 2


def test_a_mask_that_was_just_written_is_not_remembered(
    mask: pathlib.Path, reads: list[str]
) -> None:
    os.utime(mask)
    open_again(mask)
    open_again(mask)
    assert len(reads) == 2


def test_a_cache_that_cannot_be_used_is_no_error(
    mask: pathlib.Path, reads: list[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "cache").write_text("not a directory")
    assert open_again(mask) == open_again(mask)
    (tmp_path / "cache").unlink()
    open_again(mask)
    (file,) = (tmp_path / "cache" / "aff_jax" / "masks").iterdir()
    for content in ("{", "[]", '{"version": 0}'):
        file.write_text(content)
        assert open_again(mask).counts == {0: 1, 1: 2}
