"""Examples in separate files: checks of all files, and descriptions of images that differ."""

import pathlib

import pytest

from aff_jax.images.image_files import Header
from train.data.sources import folder_examples
from train.data.sources.encoded_examples import EncodedExample
from train.data.sources.folder_examples import check_files, collect_examples


def check(number: int) -> int:
    if number % 50 == 7:
        raise ValueError(f"file {number} is wrong")
    return number**2


def test_results_are_in_the_order_of_the_files(tmp_path: pathlib.Path) -> None:
    files = [number for number in range(200) if number % 50 != 7]
    assert check_files(tmp_path, check, files) == [number**2 for number in files]


def test_all_files_with_problems_are_listed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"4 of the files in .* cannot be used") as error:
        check_files(tmp_path, check, range(200))
    lines = str(error.value).splitlines()[1:]
    assert lines == [f"  file {number} is wrong" for number in (7, 57, 107, 157)]


def test_an_example_has_the_bytes_and_the_names_of_its_files(tmp_path: pathlib.Path) -> None:
    image, mask = tmp_path / "1.jpg", tmp_path / "1.png"
    image.write_bytes(b"image")
    mask.write_bytes(b"mask")
    headers = [Header(2, 3, 1)]
    (labeled,) = collect_examples("mine", headers, ("cat", "dog"), [str(image)], [1])
    assert labeled == EncodedExample(b"image", 1, str(image), str(image))
    examples = collect_examples("mine", headers, ("cat", "dog"), [str(image)], [str(mask)])
    assert examples[0] == EncodedExample(b"image", b"mask", str(image), str(mask))
    assert examples.is_mask
    assert (examples.image_shape, examples.mixed_sizes) == ((2, 3, 1), "")


def test_the_first_image_that_differs_is_named() -> None:
    headers = [Header(2, 3, 1), Header(2, 3, 3), Header(5, 3, 1)]
    examples = collect_examples("mine", headers, ("cat",), ["a", "b", "c"], [0, 0, 0])
    assert examples.mixed_sizes == "a is 3 x 2, c is 3 x 5"
    assert examples.mixed_channels == "a is gray, b is color"


def fail(number: int) -> int:
    error = ValueError(f"file {number} is wrong")
    error.add_note("rename it")
    raise error


def test_notes_of_many_files_are_said_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        ValueError, match=r"(?s)3 of the files .*file 2 is wrong\nrename it$"
    ) as error:
        check_files(tmp_path, fail, range(3))
    assert str(error.value).count("rename it") == 1


@pytest.mark.parametrize("is_terminal", [True, False])
def test_many_files_show_their_progress(
    is_terminal: bool,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(folder_examples, "_MANY_FILES", 100)
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert check_files(tmp_path, check, range(8, 50)) == [number**2 for number in range(8, 50)]
    assert capsys.readouterr().err == ""
    files = [number for number in range(200) if number % 50 != 7]
    assert len(check_files(tmp_path, check, files)) == 196
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("checking" in printed.err) == is_terminal
