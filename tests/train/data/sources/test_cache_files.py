"""Files in the cache directory are read, written at once, and missing without an error."""

import pathlib

import pytest

from train.data.sources.cache_files import cache_path, read_cached, write_cached


def test_a_folder_has_one_file_of_each_kind(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cache_path("masks", tmp_path / "a", ".json")
    assert path.parent == tmp_path / "aff_jax" / "masks"
    assert path == cache_path("masks", tmp_path / "b" / ".." / "a", ".json")
    assert path != cache_path("masks", tmp_path / "b", ".json")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path("masks", "a", ".txt").parent == tmp_path / ".cache" / "aff_jax" / "masks"


def test_what_was_written_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "a.json"
    assert read_cached(path) is None
    assert write_cached(path, "[1, 2]")
    assert read_cached(path) == [1, 2]
    assert list(path.parent.iterdir()) == [path]
    write_cached(path, "[1, ")
    assert read_cached(path) is None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert not write_cached(tmp_path / "file" / "a.json", "[]")
    assert read_cached(tmp_path / "file" / "a.json") is None
    (tmp_path / "taken").mkdir()
    assert not write_cached(tmp_path / "taken", "[]")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]
