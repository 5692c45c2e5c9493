"""Files have their old or their new contents, and errors have the free disk space."""

from pathlib import Path

import pytest

from train.runtime.writing import explain_write_errors, write_atomically


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    for text in ("first", "größer"):
        write_atomically(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def fill_disk(partial: Path, *args: object, **kwargs: object) -> None:
        partial.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill_disk)
    message = rf"could not write {path}: No space left on device; [\d,]+ bytes are free\. Free "
    with pytest.raises(OSError, match=message):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_are_not_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^wrong$"), explain_write_errors(tmp_path / "x"):
        raise ValueError("wrong")
    with (
        pytest.raises(OSError, match=r"could not write .*x: only a message; "),
        explain_write_errors(tmp_path / "x"),
    ):
        raise OSError("only a message")
