"""Predictions of single images and batches, against NumPy."""

import re

import jax
import numpy as np
import pytest
from PIL import Image

import aff_jax
from aff_jax.images import ImageTask
from aff_jax.prediction.predictor import CROPPED, ClassPrediction, MaskPrediction, Predictor
from tests.aff_jax.prediction.networks import ChannelScores, color_predictor, color_task


def test_class_and_probability_are_those_of_the_softmax():
    predictor = color_predictor("classification", mean=(0.2, 0.1, 0.0), std=(0.5, 0.25, 1.0))
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 255, 102
    prediction = predictor(pixels)
    assert isinstance(prediction, ClassPrediction)
    scores = (np.array([1.0, 0.4, 0.0]) - [0.2, 0.1, 0.0]) / [0.5, 0.25, 1.0]
    expected = np.exp(scores) / np.exp(scores).sum()
    # float32
    np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-6)
    assert (prediction.class_name, prediction.class_number) == ("red", 0)
    assert prediction.probability == pytest.approx(expected[0], rel=1e-6)


def test_a_large_score_does_not_overflow():
    predictor = color_predictor("classification", std=(1e-3, 1.0, 1.0))
    prediction = predictor(np.full((4, 6, 3), 255, np.uint8))
    assert prediction.probabilities.tolist() == [1.0, 0.0, 0.0]


def test_a_mask_has_the_size_of_its_image():
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :6, 0], pixels[:, 6:, 2] = 255, 255
    prediction = color_predictor("segmentation")(Image.fromarray(pixels))
    assert isinstance(prediction, MaskPrediction)
    assert prediction.classes.dtype == np.uint8
    np.testing.assert_array_equal(prediction.classes, pixels.argmax(-1))
    assert prediction.shares == {"red": 0.5, "green": 0.0, "blue": 0.5}


def test_cropped_pixels_have_no_class():
    pixels = np.zeros((4, 12, 3), np.uint8)
    prediction = color_predictor("segmentation", resize="crop")(pixels)
    assert (prediction.classes[:, 3:9] == 0).all()
    assert (prediction.classes[:, :3] == CROPPED).all()
    assert sum(prediction.shares.values()) == 0.5


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_batch_equals_its_images_one_by_one(count):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (4 + k, 6, 3)).astype(np.uint8) for k in range(count)]
    predictor = color_predictor("classification")
    found = predictor.predict_batch(images)
    for prediction, image in zip(found, images, strict=True):
        np.testing.assert_array_equal(prediction.probabilities, predictor(image).probabilities)
    assert predictor.predict_batch([]) == []


def test_batches_of_similar_sizes_share_a_program(monkeypatch):
    predictor = color_predictor("classification")
    shapes = []
    monkeypatch.setattr(
        predictor,
        "_apply",
        lambda variables, pixels: shapes.append(pixels.shape) or pixels.astype(float).mean((1, 2)),
    )
    for count in (3, 4, 3, 1):
        predictor.scores(np.zeros((count, 4, 6, 3), np.uint8))
    assert [shape[0] for shape in shapes] == [4, 1]


def test_input_that_is_normalized_already_is_refused():
    with pytest.raises(ValueError, match=r"uint8 pixels in 0 \.\. 255, got an array of float32"):
        color_predictor("classification")(np.zeros((4, 6, 3), np.float32))


def test_one_image_is_no_batch():
    with pytest.raises(TypeError, match=r"several images, got a str\. Call predictor\(image\)"):
        color_predictor("classification").predict_batch("photo.jpg")


def test_an_image_is_rotated_once_however_it_is_passed(tmp_path):
    image = Image.new("RGB", (12, 8), "red")
    image.getexif()[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / "a.jpg", exif=image.getexif())
    predictor = color_predictor("segmentation")
    opened = predictor.image_task.open(tmp_path / "a.jpg")
    changed = Image.open(tmp_path / "a.jpg").convert("RGB")
    for given in (tmp_path / "a.jpg", Image.open(tmp_path / "a.jpg"), changed, opened):
        assert predictor(given).classes.shape == (12, 8)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(IsADirectoryError, match="expected an image, got the folder"):
        color_predictor("classification")(tmp_path)


def test_a_network_for_another_task_is_refused():
    message = r"segmentation .* shape \(1, 4, 6, 3\), got \(1, 3\) from ChannelScores"
    with pytest.raises(ValueError, match=message):
        Predictor(ChannelScores(per_pixel=False), {}, color_task("segmentation"))


def test_a_saved_model_predicts_as_the_one_in_memory(tmp_path):
    model = aff_jax.create_model("cifar_resnet8", num_classes=2)
    task = ImageTask("classification", ("a", "b"), (8, 8), 1, (0.5,), (0.25,))
    image = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    variables = jax.jit(model.init)(jax.random.key(0), task.preprocess(image)[None])
    aff_jax.save(tmp_path / "a.safetensors", variables, model, image_task=task)
    predictor = Predictor.load(tmp_path / "a.safetensors")
    assert predictor.image_task == task
    expected = Predictor(model, variables, task)(image)
    np.testing.assert_array_equal(predictor(image).probabilities, expected.probabilities)
    aff_jax.save(tmp_path / "b.safetensors", variables, model)
    path = re.escape(str(tmp_path / "b.safetensors"))
    with pytest.raises(ValueError, match=rf"got {path}, which has the weights alone"):
        Predictor.load(tmp_path / "b.safetensors")
