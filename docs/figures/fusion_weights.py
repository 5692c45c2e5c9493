"""Draw `aff.svg`: the AFF block as a diagram, beside the weights M of a trained network.

    .venv/bin/python docs/figures/fusion_weights.py

The script trains a feature pyramid network with AFF for 180 steps to find handwritten digits among
strokes and rectangles. The digits come from scikit-learn, so nothing is downloaded. The picture
shows the weights M of the last fusion, which works at the resolution of the image. The script needs
the extra `train`; its steps take about 100 seconds of CPU time.
"""

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

import jax  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import SubFigure  # noqa: E402
from matplotlib.patches import Circle, FancyBboxPatch  # noqa: E402

import aff_jax  # noqa: E402
from train.data.sources.load import load_source  # noqa: E402

STEPS, BATCH = 180, 8
SCENE = 14
"""Position in the test split of the scene that is shown."""

# The ends of the color map of the weights: purple for x, orange for y.
PURPLE, ORANGE, BLACK = "#542788", "#b35806", "#333333"


def load_scenes(split: str, data_dir: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` normalized images and their masks: 1 for a pixel of a digit, else 0."""
    source = load_source("digit_scenes", split, data_dir=data_dir)
    examples = [source[i] for i in range(count)]
    images = np.stack([example["image"] for example in examples]) / np.float32(255)
    masks = np.stack([example["label"] for example in examples]) > 0
    return (images - np.float32(source.mean)) / np.float32(source.std), masks.astype(np.int32)


def train(model: Any, images: np.ndarray, masks: np.ndarray, steps: int) -> dict[str, Any]:
    """Return the variables of `model` after `steps` steps of SGD."""
    optimizer = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9, nesterov=True)

    @jax.jit
    def step(variables: Any, opt_state: Any, images: Any, masks: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, masks)
            return losses.mean(), updates

        gradients, updates = jax.grad(loss, has_aux=True)(variables["params"])
        changes, opt_state = optimizer.update(gradients, opt_state)
        params = optax.apply_updates(variables["params"], changes)
        return {"params": params, **updates}, opt_state

    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    opt_state = optimizer.init(variables["params"])
    rng = np.random.default_rng(0)
    for _ in range(steps):
        rows = rng.choice(len(images), BATCH, replace=False)
        variables, opt_state = step(variables, opt_state, images[rows], masks[rows])
    return dict(variables)


def draw_block(axes: Axes) -> None:
    """Draw the AFF block, from x and y on the left to the output on the right."""
    axes.set(xlim=(0, 13.1), ylim=(0.1, 6.1), aspect="equal")
    axes.axis("off")

    def box(left: float, bottom: float, width: float, height: float, **style: Any) -> None:
        shape = "round,pad=0,rounding_size=0.2"
        patch = FancyBboxPatch((left, bottom), width, height, boxstyle=shape, **style)
        axes.add_patch(patch)

    def line(*points: tuple[float, float], color: str = BLACK, arrow: bool = True) -> None:
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.5, solid_capstyle="round")
        if arrow:
            style = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", points[-1], points[-2], arrowprops=style)

    def circle(x: float, y: float, sign: str, color: str = BLACK) -> None:
        axes.add_patch(
            Circle((x, y), 0.3, facecolor="white", edgecolor=color, linewidth=1.5, zorder=3)
        )
        style = {"ha": "center", "va": "center", "zorder": 4}
        axes.text(x, y - 0.03, sign, fontsize=13, color=color, **style)

    box(2.6, 1.35, 6.2, 3.3, facecolor="#f2f2f2", edgecolor="none")
    axes.text(5.7, 4.33, "MS-CAM", ha="center", va="center", fontsize=9, color="#666666")
    for bottom, text in (
        (3.05, "local attention:\nreads each position"),
        (1.65, "global attention:\nreads the mean of the map"),
    ):
        middle = bottom + 0.5
        line((1.6, 3.0), (2.9, 3.0), (2.9, middle), (3.2, middle))
        line((6.7, middle), (7.1, middle), (7.1, 3.3 if bottom > 2 else 2.7))
        box(3.2, bottom, 3.5, 1.0, facecolor="white", edgecolor=BLACK)
        axes.text(4.95, middle, text, ha="center", va="center", fontsize=8)
    line((7.4, 3.0), (7.65, 3.0))
    box(7.65, 2.65, 0.95, 0.7, facecolor="white", edgecolor=BLACK)
    axes.text(8.125, 3.0, "sigmoid", ha="center", va="center", fontsize=7)
    line((8.6, 3.0), (9.8, 3.0), arrow=False)

    for name, height, color, weight, inner in (
        ("x", 5.4, PURPLE, "M", 0.3),
        ("y", 0.6, ORANGE, "1 \u2212 M", -0.3),
    ):
        axes.text(0.35, height, name, ha="center", va="center", fontsize=13, color=color)
        line((0.65, height), (9.5, height), color=color)
        line((1.3, height), (1.3, 3.0 + inner), color=color)
        line((9.8, 3.0), (9.8, height - inner))
        axes.text(9.95, (3.0 + height) / 2, weight, va="center", fontsize=10, color=color)
        line((10.1, height), (11.3, height), (11.3, 3.0 + inner), color=color)
        circle(9.8, height, "\u00d7", color)
    for x in (1.3, 7.1, 11.3):
        circle(x, 3.0, "+")
    line((11.6, 3.0), (12.1, 3.0))
    axes.text(12.2, 3.0, "AFF", va="center", fontsize=11)


def draw_weights(
    figure: SubFigure, axes: Sequence[Axes], image: np.ndarray, maps: np.ndarray
) -> None:
    """Draw an image and the weights of two of the channels."""
    axes[0].imshow(image, cmap=plt.get_cmap("gray", 32))
    axes[0].set_title("image", fontsize=9)
    for axis, weights, title in zip(
        axes[1:], maps, ("one channel", "another channel"), strict=True
    ):
        drawn = axis.imshow(weights, cmap=plt.get_cmap("PuOr", 20), vmin=0, vmax=1)
        axis.set_title(f"M in {title}", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    bar = figure.colorbar(drawn, ax=axes, orientation="horizontal", aspect=40, shrink=0.6, pad=0.03)
    bar.set_ticks([0, 0.5, 1], labels=["0: only y", "\u00bd", "1: only x"], fontsize=9)


def main(steps: int = STEPS, target: Path = HERE / "aff.svg") -> None:
    """Train, and write the picture to `target`."""
    with tempfile.TemporaryDirectory() as data_dir:
        images, masks = load_scenes("train", data_dir, 1000)
        scenes, digits = load_scenes("test", data_dir, 48)
    model = aff_jax.create_model(
        "fpn_resnet20", fusion="aff", num_classes=2, blocks_per_stage=(1, 1, 1)
    )
    variables = train(model, images, masks, steps)
    (weights,) = jax.jit(partial(aff_jax.fusion_weights, model))(variables, scenes)["fuse1"]
    weights = np.asarray(weights)
    # The two channels that differ most between digits and background, in the two directions.
    contrast = weights[digits > 0].mean(0) - weights[digits == 0].mean(0)
    channels = [contrast.argmax(), contrast.argmin()]
    draw(scenes[SCENE], weights[SCENE][..., channels], target)


def draw(image: np.ndarray, weights: np.ndarray, target: Path) -> None:
    """Write the diagram, the image and the weights of two channels to `target`."""
    # Without random identifiers and a date, the same picture gives the same file.
    plt.rcParams.update({"svg.hashsalt": "aff", "image.interpolation": "nearest"})
    figure = plt.figure(figsize=(11, 3), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(6, 5))
    draw_block(left.subplots())
    draw_weights(right, right.subplots(1, 3), image, np.moveaxis(weights, -1, 0))
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
