"""Runs made from configs."""

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from configs import digit_scenes, mask_folder
from train import setup
from train.data.feed import TrainFeed
from train.data.sources.data_source import Source
from train.setup import make_run


class Linear(nn.Module):
    """A linear network with an output per pixel."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(self.num_classes)(images)


@pytest.mark.slow
def test_the_config_of_scenes_predicts_a_class_per_pixel(digits_dir):
    config = digit_scenes.get_config()
    config.data_dir = str(digits_dir)
    run = make_run(config)
    images = np.stack([run.eval_source[i]["image"] for i in range(2)])
    assert run.predict(run.state, images).shape == (2, 64, 64)


@pytest.mark.filterwarnings("ignore:found no .*classes.txt")
def test_a_folder_of_images_and_masks_can_be_trained_on(tmp_path, monkeypatch):
    """The images have different sizes and color modes, and the config is not changed."""
    monkeypatch.setattr(setup, "make_model", lambda config, classes: Linear(classes))
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, mode in enumerate(("RGB", "L", "RGBA", "P") * 2):
            size = (60 + number, 80)
            image = Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).convert(mode)
            mask = Image.fromarray(generator.choice(np.array([0, 1, 2, 255], np.uint8), size))
            for kind, picture in (("images", image), ("masks", mask)):
                (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
                picture.save(tmp_path / split / kind / f"{number}.png")
    config = mask_folder.get_config()
    config.data_dir = str(tmp_path)
    run = make_run(config)
    assert run.train_source.mean == (0.485, 0.456, 0.406)
    batch = next(TrainFeed(run.train_source, batch_size=config.batch_size, seed=0))
    assert batch["image"].shape == (8, 64, 64, 3)
    state, metrics = run.train_step(run.state, batch)
    assert float(metrics["loss"]) == pytest.approx(np.log(3), abs=1)
    assert run.predict(state, batch["image"]).shape == (8, 64, 64)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss", "dice", "unknown loss 'dice'"),
        ("loss", "cross_entropy_dice", "expected masks for loss='cross_entropy_dice'"),
        ("class_weights", "even", "unknown class_weights 'even'"),
        ("class_weights", "balanced", "counts the labels of its classes"),
    ],
)
def test_a_loss_that_the_dataset_does_not_support_is_refused(
    config, small_network, monkeypatch, field, value, message
):
    monkeypatch.setattr(Source, "class_counts", None)
    config[field] = value
    with pytest.raises(ValueError, match=message):
        make_run(config)


def test_class_weights_follow_from_the_counts_of_the_training_split(
    config, small_network, monkeypatch
):
    losses = []
    monkeypatch.setattr(Source, "class_counts", np.array([4] * 9 + [64]))
    monkeypatch.setattr(
        setup,
        "make_train_step",
        lambda *_, loss_function, **__: losses.append(loss_function),
    )
    config.class_weights, config.loss = "balanced", "focal"
    monkeypatch.setattr(
        "train.steps.parallel.Pmap.compile", lambda self, step, **_: step, raising=True
    )
    make_run(config)
    assert losses[0].name == "focal"
    np.testing.assert_allclose(losses[0].class_weights, [2.5] * 9 + [100 / 640])
