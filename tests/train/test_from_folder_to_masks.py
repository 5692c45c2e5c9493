"""From a folder of images and masks to predicted masks, as its user would do it."""

import csv

import numpy as np
import pytest
from PIL import Image

import aff_jax
from aff_jax.cli.main import main as aff_jax_command
from configs import mask_folder
from train import start
from train.saved_evaluation import evaluate_checkpoint
from train.saved_run import save_model

SIZE = 24, 32
# Values of masks, their names, and the colors of their pixels in images. Void is not trained on.
VALUES = np.array([0, 2, 5, 7, 9, 11])
NAMES = ("ground", "water", "tree", "house", "car", "void")
COLORS = [[120, 110, 90], [30, 60, 200], [20, 140, 30], [180, 60, 50], [230, 230, 60], [0, 0, 0]]
SIDES = (26, 18, 12, 8)  # of the rectangles of the classes 1 to 4: cars are rare


def write_scenes(folder, count, seed):
    """Write scenes of 64 x 48 and 64 x 56 pixels, with rectangles of each class."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        height, width = 48 + 8 * (number % 2), 64
        classes = np.zeros((height, width), np.uint8)
        for label, side in enumerate(SIDES, start=1):
            top, left = rng.integers(3, height - side), rng.integers(0, width - side)
            classes[top : top + side, left : left + side] = label
        classes[:3] = 5
        pixels = np.array(COLORS)[classes] + rng.normal(0, 10, (height, width, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image.save(folder / "images" / f"{number}.jpg", quality=95)
        mask = VALUES[classes].astype(np.uint8)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


@pytest.mark.slow
def test_masks_of_the_saved_model_are_those_that_were_evaluated(tmp_path, console):
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "net.safetensors"
    for seed, (split, count) in enumerate({"train": 12, "val": 4, "test": 5}.items()):
        write_scenes(data / split, count, seed)
    lines = [f"{value} {name}" for value, name in zip(VALUES, NAMES, strict=True)]
    (data / "classes.txt").write_text("\n".join(lines))
    config = mask_folder.get_config()
    config.data_dir, config.image_size, config.epochs = str(data), SIZE, 20.0
    config.eval_every_epochs = 10.0
    start.train(config, run, console)
    evaluated = evaluate_checkpoint(run, split="test", original_size=True).metrics

    # The same names in the same order, but with each other's values.
    swapped = "\n".join(lines).replace("2 water", "5 water").replace("5 tree", "2 tree")
    (data / "classes.txt").write_text(swapped)
    with pytest.raises(ValueError, match="2 was 'water' and is 'tree'"):
        evaluate_checkpoint(run, split="test")

    # The rest needs neither the training data nor the run.
    (data / "train").rename(tmp_path / "elsewhere")
    save_model(run, file)
    run.rename(tmp_path / "run of another machine")
    images, output = data / "test" / "images", tmp_path / "predicted"
    assert aff_jax_command(["predict", str(file), str(images), f"--output={output}"]) == 0
    confusion = np.zeros((12, 12), int)
    with open(output / "predictions.csv", newline="") as rows:
        for row in csv.DictReader(rows):
            mask = data / "test" / "masks" / row["image"].replace(".jpg", ".png")
            labels = np.asarray(Image.open(mask))
            predicted = np.asarray(Image.open(output / row["mask"]))
            assert labels.shape == predicted.shape
            known = labels != 11
            np.add.at(confusion, (labels[known], predicted[known]), 1)
    confusion = confusion[np.ix_(VALUES[:5], VALUES[:5])]  # void is never predicted
    hits = np.diagonal(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert evaluated["mean_iou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert evaluated["pixel_accuracy"] == hits.sum() / confusion.sum()
    assert evaluated["mean_iou"] > 0.5  # it has learned the colors

    # From Python the same, in three lines.
    predictor = aff_jax.Predictor.load(file)
    prediction = predictor(images / "0.jpg")
    mask = Image.open(output / "masks" / "0.png")
    np.testing.assert_array_equal(VALUES[prediction.classes], mask)
