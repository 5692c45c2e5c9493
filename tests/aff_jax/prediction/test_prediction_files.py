"""Predictions of a folder: every file, in the sizes of the images, and every refusal."""

import csv
import errno
import json

import numpy as np
import pytest
from PIL import Image

from aff_jax.prediction.prediction_files import predict_files
from aff_jax.prediction.tables import CSV_FILE, JSON_FILE
from tests.aff_jax.prediction.networks import color_predictor

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def photos(tmp_path):
    """Images of several sizes, modes and folders, one of them rotated and one damaged."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (12, 8), "red").save(folder / "a.png")
    Image.new("RGB", (6, 4), "blue").save(folder / "more" / "a.bmp")
    Image.new("L", (5, 7), 200).save(folder / "gray.png")
    rotated = Image.new("RGB", (16, 8), "lime")
    exif = rotated.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    rotated.save(folder / "rotated.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def rows_by_image(output):
    with open(output / CSV_FILE, newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_classes_of_a_folder(photos, tmp_path, batch_size):
    progress = []
    result = predict_files(
        color_predictor("classification"),
        photos,
        tmp_path / "out",
        network="colors",
        batch_size=batch_size,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    rows = rows_by_image(tmp_path / "out")
    found = {image: row["class"] for image, row in rows.items()}
    assert found == {
        "a.png": "red",
        "more/a.bmp": "blue",
        "gray.png": "red",  # all logits are equal, and the first one is taken
        "rotated.jpg": "green",
    }
    assert result.predicted == 4
    (broken,) = result.unreadable.items()
    assert broken[0] == str(photos / "broken.jpg")
    assert "it is not an image" in broken[1]
    assert progress[-1] == (5, 5)
    content = json.loads((tmp_path / "out" / JSON_FILE).read_text())
    assert content["unreadable"] == [{"image": broken[0], "reason": broken[1]}]


def test_masks_of_a_folder_have_the_sizes_of_the_images(photos, tmp_path):
    output = tmp_path / "out"
    result = predict_files(color_predictor("segmentation"), photos, output, network="colors")
    rows = rows_by_image(output)
    assert (result.predicted, result.cropped, len(result.unreadable)) == (4, 0, 1)
    sizes = {"a.png": (12, 8), "more/a.bmp": (6, 4), "gray.png": (5, 7), "rotated.jpg": (8, 16)}
    values = {"a.png": 0, "more/a.bmp": 2, "gray.png": 0, "rotated.jpg": 1}
    for image, size in sizes.items():
        with Image.open(output / rows[image]["mask"]) as mask:
            assert mask.size == size
            assert np.unique(np.asarray(mask)).tolist() == [values[image]]
        with Image.open(output / rows[image]["overlay"]) as overlay:
            assert (overlay.size, overlay.mode) == (size, "RGB")
    assert rows["more/a.bmp"]["mask"] == "masks/more/a.png"
    assert (output / "legend.png").exists()


def test_images_that_share_a_stem_have_masks_of_their_own(tmp_path):
    for name in ("a.png", "a.bmp", "b.png"):
        Image.new("RGB", (6, 4), "red").save(tmp_path / name)
    predict_files(color_predictor("segmentation"), tmp_path, tmp_path / "out", network="n")
    rows = rows_by_image(tmp_path / "out")
    masks = [rows[name]["mask"] for name in ("a.png", "a.bmp", "b.png")]
    assert masks == ["masks/a.png.png", "masks/a.bmp.png", "masks/b.png"]


def test_no_two_images_share_a_mask(tmp_path):
    for name in ("a.png", "a.bmp", "a.png.png"):
        Image.new("RGB", (6, 4), "red").save(tmp_path / name)
    predict_files(color_predictor("segmentation"), tmp_path, tmp_path / "out", network="n")
    masks = [row["mask"] for row in rows_by_image(tmp_path / "out").values()]
    assert len({*masks}) == 3
    assert all((tmp_path / "out" / mask).exists() for mask in masks)


def test_overwriting_removes_what_was_predicted_before_and_nothing_else(photos, tmp_path):
    output = tmp_path / "out"
    predict_files(color_predictor("segmentation"), photos, output, network="n")
    (output / "masks" / "own.png").write_bytes(b"mine")
    predictor = color_predictor("classification")
    predict_files(predictor, photos / "a.png", output, network="n", overwrite=True)
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert files == {CSV_FILE, JSON_FILE, "masks/own.png"}


def test_overwriting_removes_empty_folders(photos, tmp_path):
    output = tmp_path / "out"
    predict_files(color_predictor("segmentation"), photos, output, network="n")
    assert (output / "masks" / "more").is_dir()
    predictor = color_predictor("classification")
    predict_files(predictor, photos, output, network="n", overwrite=True)
    assert {path.name for path in output.iterdir()} == {CSV_FILE, JSON_FILE}


def test_a_damaged_table_does_not_lead_out_of_the_folder(photos, tmp_path):
    output = tmp_path / "out"
    predict_files(color_predictor("classification"), photos, output, network="n")
    (output / JSON_FILE).write_text(json.dumps({"images": [{"mask": "../photos/a.png"}]}))
    predictor = color_predictor("classification")
    predict_files(predictor, photos, output, network="n", overwrite=True)
    assert (photos / "a.png").exists()


def test_images_that_pillow_does_not_read_are_named(photos, tmp_path):
    (photos / "phone.heic").write_bytes(b"not read by Pillow")
    Image.new("RGB", (6, 4), "red").save(photos / "b.gif")
    result = predict_files(color_predictor("classification"), photos, tmp_path / "out", network="n")
    assert str(photos / "phone.heic") in result.unreadable
    assert "b.gif" in rows_by_image(tmp_path / "out")


def test_links_to_nothing_are_named_and_the_others_predicted(photos, tmp_path):
    (photos / "album").symlink_to(tmp_path / "nowhere")
    result = predict_files(color_predictor("classification"), photos, tmp_path / "out", network="n")
    assert str(photos / "album") in result.unreadable
    assert result.predicted > 0


@pytest.mark.parametrize("name", ["legend.png", "masks/a.png"])
def test_a_full_disk_names_the_file(name, photos, tmp_path, monkeypatch):
    save = Image.Image.save

    def save_until_full(self, path):
        if path == tmp_path / "out" / name:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, path)

    monkeypatch.setattr(Image.Image, "save", save_until_full)
    with pytest.raises(OSError, match=rf"No space left on device: '.*{name}'") as error:
        predict_files(
            color_predictor("segmentation"), photos / "a.png", tmp_path / "out", network="n"
        )
    assert error.value.errno == errno.ENOSPC


def test_cropped_pixels_are_counted(tmp_path):
    Image.new("RGB", (24, 4)).save(tmp_path / "wide.png")
    predictor = color_predictor("segmentation", resize="crop")
    result = predict_files(predictor, tmp_path / "wide.png", tmp_path / "out", network="n")
    assert result.cropped == 1


def test_one_image_may_be_predicted(photos, tmp_path):
    predictor = color_predictor("classification")
    predict_files(predictor, photos / "more" / "a.bmp", tmp_path / "out", network="n")
    assert list(rows_by_image(tmp_path / "out")) == ["a.bmp"]


def test_an_earlier_output_is_not_replaced_and_not_predicted(photos, tmp_path):
    predictor, output = color_predictor("segmentation"), photos / "out"
    predict_files(predictor, photos, output, network="n")
    before = (output / CSV_FILE).read_bytes()
    with pytest.raises(FileExistsError, match="already has predictions"):
        predict_files(predictor, photos, output, network="n")
    again = predict_files(predictor, photos, output, network="n", overwrite=True)
    assert again.predicted == 4  # masks and overlays in the folder are not predicted
    assert (output / CSV_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "a folder of images, found no .*nowhere"),
        ("empty", ValueError, r"expected images \(\.bmp, .*\) in .*empty, got none"),
    ],
)
def test_missing_images(tmp_path, images, error, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        predict_files(
            color_predictor("classification"), tmp_path / images, tmp_path / "out", network="n"
        )
    assert not (tmp_path / "out").exists()


def test_a_file_as_output_and_a_batch_of_nothing_are_refused(photos, tmp_path):
    predictor = color_predictor("classification")
    with pytest.raises(FileExistsError, match=r"got the file .*a\.png"):
        predict_files(predictor, photos, photos / "a.png", network="n")
    with pytest.raises(ValueError, match="expected another folder for the predictions"):
        predict_files(predictor, photos, photos, network="n")
    with pytest.raises(ValueError, match="batch size of at least 1, got 0"):
        predict_files(predictor, photos, tmp_path / "out", network="n", batch_size=0)
