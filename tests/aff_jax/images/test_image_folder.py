"""Find the image files in a folder."""

import pathlib

import pytest

from aff_jax.images.image_folder import abbreviate, check_links, list_images


def touch(root: pathlib.Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_are_found_in_order_and_at_any_depth(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "c/d/e.webp", "B.jpeg")
    found = [pathlib.Path(path).relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["B.jpeg", "a.JPG", "b.png", "c/d/e.webp"]


def test_link_to_a_parent_folder_is_not_followed_forever(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").touch()
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    assert list_images(tmp_path) == [str(tmp_path / "cat" / "a.png")]


def test_other_files_are_ignored_with_a_warning(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "a.png", "b.heic", *(f"notes{n:02}.txt" for n in range(12)))
    with pytest.warns(UserWarning, match=r"ignored files.*b\.heic.*notes08\.txt and 3 more"):
        assert len(list_images(tmp_path)) == 1


def test_a_folder_is_left_out(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "a.png", "out/b.png", "out/notes.txt", "out/c/d.png")
    assert list_images(tmp_path, skip=tmp_path / "out") == [str(tmp_path / "a.png")]


def test_links_to_nothing_are_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"links to nothing: .*a\.png"):
        check_links([str(tmp_path / "a.png")])


def test_links_to_nothing_may_be_listed(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "b.png")
    (tmp_path / "album").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="links to nothing"):
        list_images(tmp_path)
    expected = [str(tmp_path / "album"), str(tmp_path / "b.png")]
    assert list_images(tmp_path, broken_links=True) == expected


def test_long_lists_are_abbreviated() -> None:
    assert abbreviate(["a", "b"]) == "a, b"
    assert abbreviate(list("abcdefghijkl")) == "a, b, c, d, e, f, g, h, i, j and 2 more"
