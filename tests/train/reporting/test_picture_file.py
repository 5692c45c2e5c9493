"""A picture is complete or as it was before, and no error of drawing ends a run."""

from pathlib import Path

from train.reporting.picture_file import write_picture


def test_the_picture_appears_when_it_is_complete(tmp_path: Path) -> None:
    path, messages = tmp_path / "curves.png", []

    def draw(partial: Path) -> None:
        partial.write_bytes(b"curves")
        assert not path.exists()

    write_picture(path, draw, messages.append)
    assert path.read_bytes() == b"curves"
    assert messages == []


def test_an_error_is_logged_and_the_older_picture_remains(tmp_path: Path) -> None:
    path, messages = tmp_path / "curves.png", []
    path.write_bytes(b"older")

    def fail(partial: Path) -> None:
        partial.write_bytes(b"half of it")
        raise RuntimeError("no font\nat all " + "x" * 1000)

    write_picture(path, fail, messages.append)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]
    (message,) = messages
    assert message.startswith(f"Could not draw {path}: RuntimeError: no font at all [...]. All")
    assert "\n" not in message


def test_a_file_that_cannot_be_created_is_logged(tmp_path: Path) -> None:
    messages: list[str] = []
    write_picture(tmp_path / "no" / "curves.png", Path.touch, messages.append)
    assert "FileNotFoundError" in messages[0]
