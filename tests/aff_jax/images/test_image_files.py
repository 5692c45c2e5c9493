"""Image files of different formats and modes, and error messages that name the file."""

import pathlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from aff_jax.images.image_files import Header, decode_image, encode_png, read_header
from tests.train.data.example_images import encode

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


def decode(data: bytes, channels: int, use_exif_orientation: bool = False) -> np.ndarray:
    return np.asarray(decode_image(data, channels, "a.png", use_exif_orientation))


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)],
)
def test_header_has_size_and_channels(mode: str, channels: int, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert read_header(str(path), "a.png") == Header(height=6, width=4, channels=channels)
    assert decode(path.read_bytes(), channels).shape == ((6, 4) if channels == 1 else (6, 4, 3))


def test_cmyk_is_color(tmp_path: pathlib.Path) -> None:
    data = encode(Image.fromarray(PIXELS).convert("CMYK"), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_header(str(tmp_path / "a.jpg"), "a.jpg").channels == 3
    assert decode(data, 3).shape == (6, 4, 3)


def test_gray_and_color_are_converted() -> None:
    gray = PIXELS[..., 0]
    np.testing.assert_array_equal(
        decode(encode(Image.fromarray(gray)), 3), np.stack([gray] * 3, -1)
    )
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert abs(decode(encode(Image.fromarray(PIXELS)), 1) - luma).max() < 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_black(mode: str) -> None:
    image = Image.new("RGBA", (4, 6), (200, 200, 200, 255))
    image.paste((255, 255, 255, 0), (0, 0, 2, 6))
    # The transparent pixels are white, which must not be visible.
    pixels = decode(encode(image.convert(mode)), 3)
    assert pixels[:, :2].max() == 0
    assert abs(pixels[:, 2:].astype(int) - 200).max() <= 1


def test_half_transparent_pixels_are_half_as_bright() -> None:
    pixels = decode(encode(Image.new("RGBA", (2, 2), (200, 100, 50, 128))), 3)
    assert abs(pixels.astype(int) - [100, 50, 25]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: pathlib.Path) -> None:
    # The displayed image has a bright upper left quarter. It is stored for each orientation.
    shown = np.zeros((32, 16), np.uint8)
    shown[:16, :8] = 255
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: np.rot90(shown),
        7: shown[::-1, ::-1].T,
        8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", exif=exif, quality=95)
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_header(str(tmp_path / "a.jpg"), "a.jpg")[:2] == (32, 16)
    np.testing.assert_array_equal(decode(data, 1, use_exif_orientation=True) > 127, shown > 127)
    np.testing.assert_array_equal(decode(data, 1) > 127, stored > 127)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.9])
def test_error_names_a_truncated_file(file_format: str, kept: float) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(whole), file_format)
    cut = data[: int(kept if kept >= 1 or kept == 0 else kept * len(data))]
    with pytest.raises(ValueError, match=r"cannot read cat/1\.png: .* copy it again"):
        decode_image(cut, 3, "cat/1.png")


def test_error_names_a_file_that_is_not_an_image(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"cannot read cat/a\.jpg: it is not an image"):
        read_header(str(tmp_path / "a.jpg"), "cat/a.jpg")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_rejected(dtype: type, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.zeros((4, 4), dtype)).save(path)
    with pytest.raises(ValueError, match=r"8 bits per channel, got Pillow's mode .* in deep\.tif"):
        read_header(str(path), "deep.tif")
    with pytest.raises(ValueError, match="8 bits per channel"):
        decode_image(path.read_bytes(), 1, "deep.tif")


def test_missing_file_is_not_reported_as_damaged(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_header(str(tmp_path / "gone.png"), "gone.png")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3)])
def test_pixels_are_encoded_as_png(shape):
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    with Image.open(encode_png(pixels)) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.array(image), pixels.squeeze())


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 3)), np.zeros((2, 3, 2), np.uint8), np.zeros(3, np.uint8)]
)
def test_other_pixels_are_not_encoded(pixels):
    with pytest.raises(ValueError, match=r"expected uint8 pixels .*got .*astype\(np\.uint8\)"):
        encode_png(pixels)
