"""From a folder of images and masks to predicted masks, as its user would do it."""

import csv

import numpy as np
import pytest
from PIL import Image

import aff_jax
from aff_jax.cli.main import main as aff_jax_command
from configs import mask_folder
from train import loop
from train.saved_run import evaluate_checkpoint, export_checkpoint

SIZE = 24, 32
CLASSES = ("ground", "water", "house")
COLORS = np.array([[120, 110, 90], [30, 60, 200], [180, 60, 50], [0, 0, 0]])


def write_scenes(folder, count, seed):
    """Write scenes of colored rectangles, which are 255 at the upper border."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        height, width = 48 + 4 * (number % 3), 64
        mask = np.zeros((height, width), np.uint8)
        for label in (1, 1, 2):
            top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
            mask[top : top + 20, left : left + 20] = label
        mask[:3] = 255
        pixels = COLORS[np.minimum(mask, 3)] + rng.normal(0, 10, (height, width, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image.save(folder / "images" / f"{number}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


@pytest.mark.slow
def test_masks_of_the_exported_file_are_those_that_were_evaluated(tmp_path, console):
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "net.safetensors"
    for seed, (split, count) in enumerate({"train": 12, "val": 4, "test": 5}.items()):
        write_scenes(data / split, count, seed)
    (data / "classes.txt").write_text("\n".join(CLASSES))
    config = mask_folder.get_config()
    config.data_dir, config.image_size, config.epochs = str(data), SIZE, 20.0
    config.eval_every_epochs = 10.0
    loop.train(config, run, console)
    evaluated = evaluate_checkpoint(run, split="test", original_size=True)

    # The rest needs neither the training data nor the run.
    (data / "train").rename(tmp_path / "elsewhere")
    export_checkpoint(run, file)
    run.rename(tmp_path / "run of another machine")
    images, output = data / "test" / "images", tmp_path / "predicted"
    assert aff_jax_command(["predict", str(file), str(images), f"--output={output}"]) == 0
    confusion = np.zeros((3, 3), int)
    with open(output / "predictions.csv", newline="") as rows:
        for row in csv.DictReader(rows):
            mask = data / "test" / "masks" / row["image"].replace(".jpg", ".png")
            labels = np.asarray(Image.open(mask))
            predicted = np.asarray(Image.open(output / row["mask"]))
            assert labels.shape == predicted.shape
            known = labels != 255
            np.add.at(confusion, (labels[known], predicted[known]), 1)
    hits = np.diagonal(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert evaluated["mean_iou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert evaluated["pixel_accuracy"] == hits.sum() / confusion.sum()
    assert evaluated["mean_iou"] > 0.5  # it has learned the colors

    # From Python the same, in three lines.
    predictor = aff_jax.Predictor.load(file)
    prediction = predictor(images / "0.jpg")
    np.testing.assert_array_equal(prediction.classes, Image.open(output / "masks" / "0.png"))
