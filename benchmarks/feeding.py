"""Time the input pipeline against a training step and against a Pillow loop.

    python -m benchmarks.feeding

The benchmark prints two ratios. The runs of both sides are interleaved in one process:

1. batches per second of the device feed, over training steps per second of `cifar_resnet8` with AFF
   on the same batches. A batch has 128 random images of 32 x 32 pixels, and the dataset has as many
   images as CIFAR-10;
2. JPEG images per second of the ImageNet pipeline (decode, random crop, resize to 224 x 224) on one
   core, over those of a plain Pillow loop with the same work. The images are noise of 500 x 375
   pixels, about the mean size in ImageNet.

It takes two minutes on two CPU cores.
"""

import argparse
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.timing import Side, interleave
from configs import cifar10_resnet8
from train.data.device_feed import DeviceFeed
from train.data.feed import TrainFeed, training_order
from train.data.sources.load import load_source
from train.data.sources.random_crop import random_box
from train.setup import make_run_from_splits
from train.steps.parallel import Pmap

__all__ = [
    "RandomImages",
    "main",
    "time_feed_and_pillow",
    "time_feed_and_step",
    "write_noise_images",
]


class RandomImages:
    """A dataset of random images of the shape of CIFAR-10."""

    image_shape, label_shape, num_classes = (32, 32, 3), (), 10
    class_names = tuple("0123456789")
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, length: int) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (length, *self.image_shape), np.uint8)
        self.labels = rng.integers(0, 10, length).astype(np.int32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return {"image": self.images[i], "label": self.labels[i], "index": np.int64(i)}


def time_feed_and_step(rounds: int) -> tuple[float, float]:
    """Time the device feed and a training step.

    Args:
        rounds: Number of rounds that count.

    Returns:
        Median seconds per batch of the feed, and per training step on a batch.
    """
    config = cifar10_resnet8.get_config()
    source: Any = RandomImages(50_000)
    run = make_run_from_splits(config, source, source, Pmap())
    order = training_order(len(source), batch_size=config.batch_size, seed=0)
    feed = DeviceFeed(source, order, run.parallel)
    state = run.state
    batch = next(feed)

    def step() -> Any:
        nonlocal state
        state, metrics = run.train_step(state, batch)
        return metrics

    seconds = interleave(
        {
            "feed": Side(lambda: next(feed), jax.block_until_ready).once,
            "step": Side(step, jax.block_until_ready).once,
        },
        rounds,
    )
    return seconds["feed"], seconds["step"]


def time_feed_and_pillow(rounds: int, images: int) -> tuple[float, float]:
    """Time the ImageNet pipeline with one thread and a Pillow loop.

    Args:
        rounds: Number of rounds that count.
        images: Number of JPEG images per run.

    Returns:
        Median seconds per image of the pipeline, and of the loop.
    """
    with tempfile.TemporaryDirectory() as directory:
        files = write_noise_images(Path(directory), images)
        source = load_source("image_folder", "train", data_dir=directory, image_size=(224, 224))
        feed = TrainFeed(source, batch_size=images, seed=0, random_crop=True, threads=1)
        rng = np.random.default_rng(0)

        def loop() -> np.ndarray:
            batch = np.empty((images, 224, 224, 3), np.uint8)
            for row, file in enumerate(files):
                with Image.open(io.BytesIO(file.read_bytes())) as image:
                    picture = image.convert("RGB")
                box = random_box(rng, *picture.size)
                batch[row] = np.asarray(
                    picture.crop(box).resize((224, 224), Image.Resampling.BILINEAR)
                )
            return batch

        # Set the position before each batch, so that the feed has not prefetched it.
        position = 0

        def read_batch() -> np.ndarray:
            nonlocal position
            feed.set_state({"next_index": position})
            position += 1
            image: np.ndarray = next(feed)["image"]
            return image

        seconds = interleave({"feed": Side(read_batch).once, "loop": Side(loop).once}, rounds)
        feed.close()
        return seconds["feed"] / images, seconds["loop"] / images


def write_noise_images(directory: Path, images: int) -> list[Path]:
    """Write JPEG images of smooth noise, in two classes and two splits.

    Args:
        directory: Root directory of the image folder.
        images: Number of images in the split "train".

    Returns:
        Paths of the images in the split "train".
    """
    rng = np.random.default_rng(0)
    files = []
    for split, count in (("train", images), ("test", 2)):
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8))
            path = directory / split / f"class{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
            files.append(path)
    return files[:images]


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="number of runs of each side")
    parser.add_argument("--images", type=int, default=64, help="JPEG images per turn")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    os.sched_setaffinity(0, all_cores := os.sched_getaffinity(0))
    feed, step = time_feed_and_step(arguments.rounds)
    console.print(
        f"device feed {1e3 * feed:.2f} ms per batch, training step {1e3 * step:.0f} ms: "
        f"{step / feed:.0f} times the step rate (target: 20)"
    )
    os.sched_setaffinity(0, {min(all_cores)})
    feed, loop = time_feed_and_pillow(arguments.rounds, arguments.images)
    console.print(
        f"on one core {1 / feed:.0f} JPEG images/s of the feed, {1 / loop:.0f} of a Pillow loop: "
        f"{loop / feed:.2f} times as many (target: 1)"
    )


if __name__ == "__main__":
    main()
