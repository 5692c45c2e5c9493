"""Is the feed ever the bottleneck? Two ratios, each of two sides timed in turns in this process.

    python -m benchmarks.feeding

1. Batches a second that the device-resident feed gives, over steps a second of `cifar_resnet8` with
   AFF on the same batches: 128 images of 32 x 32 pixels, as many as CIFAR-10 has, at random.
2. JPEGs a second that the ImageNet path decodes, crops at random and resizes to 224 x 224, on one
   core, over those of a plain Pillow loop that does the same work: noise photographs of 500 x 375
   pixels, which is about the mean size in ImageNet.

Takes two minutes on two CPU cores.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from rich.console import Console

from configs import cifar10_resnet8
from train.data.device_feed import DeviceFeed
from train.data.feed import TrainFeed, training_order
from train.data.sources.resize import random_box
from train.data.sources.source import load_source
from train.setup import assemble
from train.steps.parallel import Pmap


class RandomImages:
    """A data set of CIFAR-10's size that needs no files."""

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


def alternate(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each side; the first turn of each is a warm-up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in seconds.items()}


def resident_against_step(repeats: int) -> tuple[float, float]:
    """Seconds of a batch of the resident feed, and of a training step on it."""
    config = cifar10_resnet8.get_config()
    source: Any = RandomImages(50_000)
    run = assemble(config, source, source, Pmap())
    order = training_order(len(source), batch_size=config.batch_size, seed=0)
    feed = DeviceFeed(source, order, run.parallel)
    state = run.state
    batch = next(feed)

    def step() -> None:
        nonlocal state
        state, metrics = run.train_step(state, batch)
        jax.block_until_ready(metrics)

    found = alternate({"feed": lambda: jax.block_until_ready(next(feed)), "step": step}, repeats)
    return found["feed"], found["step"]


def jpegs_against_pillow(repeats: int, images: int) -> tuple[float, float]:
    """Seconds of one JPEG by the feed with one thread, and by the loop."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder), images)
        source = load_source("image_folder", "train", data_dir=folder, image_size=224)
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

        # Nothing is read ahead between turns: each one asks for a batch that was not begun.
        position = 0

        def fed() -> np.ndarray:
            nonlocal position
            feed.set_state({"next_index": position})
            position += 1
            image: np.ndarray = next(feed)["image"]
            return image

        found = alternate({"feed": fed, "loop": loop}, repeats)
        feed.close()
        return found["feed"] / images, found["loop"] / images


def write_photographs(folder: Path, images: int) -> list[Path]:
    """Smooth noise in JPEG files, in two classes and two splits, as a data set has."""
    rng = np.random.default_rng(0)
    files = []
    for split, count in (("train", images), ("test", 2)):
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8))
            path = folder / split / f"class{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
            files.append(path)
    return files[:images]


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--images", type=int, default=64, help="JPEGs of one turn")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    os.sched_setaffinity(0, all_cores := os.sched_getaffinity(0))
    feed, step = resident_against_step(arguments.repeats)
    console.print(
        f"resident feed {1e3 * feed:.2f} ms a batch, step {1e3 * step:.0f} ms: "
        f"{step / feed:.0f} times the step rate (target: 20)"
    )
    os.sched_setaffinity(0, {min(all_cores)})
    ours, loop = jpegs_against_pillow(arguments.repeats, arguments.images)
    console.print(
        f"on one core {1 / ours:.0f} JPEGs/s through the feed, {1 / loop:.0f} by a Pillow loop: "
        f"{loop / ours:.2f} times as many (target: 1)"
    )


if __name__ == "__main__":
    main()
