"""Draw `aff.svg`: the AFF block as a diagram, beside fusion weights of a trained network.

    .venv/bin/python docs/figures/fusion_weights.py

The script trains a feature pyramid network with AFF for 180 steps to find handwritten digits among
strokes and rectangles. The digits come from scikit-learn, so nothing is downloaded. The picture has the
weights M of the last fusion, which works at the resolution of the image. Needs the extra `train`.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

import aff_jax  # noqa: E402
from train.data.sources.source import load_source  # noqa: E402

STEPS, BATCH = 180, 8
SCENE = 14
"""Position in the test split of the scene that is shown."""

# Colors of Okabe and Ito, which colorblind readers can tell apart.
BLUE, VERMILION, GRAY = "#0072B2", "#D55E00", "#888888"
PALE = {BLUE: "#d6e9f5", VERMILION: "#fbe3d3", GRAY: "#eeeeee"}


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


def box(axes: Axes, x: float, y: float, text: str, color: str, width: float = 1.9) -> None:
    """Draw a box with a text around a point."""
    style = {"boxstyle": "round,pad=0.02,rounding_size=0.12", "fc": PALE[color], "ec": color}
    axes.add_patch(plt.matplotlib.patches.FancyBboxPatch((x - width / 2, y - 0.32), width, 0.64, **style))
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def draw_block(axes: Axes) -> None:
    """Draw the AFF block from the two inputs at the left to the output at the right."""


def main(steps: int = STEPS, target: Path = HERE / "aff.svg") -> None:
    with tempfile.TemporaryDirectory() as data_dir:
        images, masks = load_scenes("train", data_dir, 1000)
        scenes, labels = load_scenes("test", data_dir, 48)
    model = aff_jax.create_model("fpn_resnet20", fusion="aff", num_classes=2, blocks_per_stage=1)
    variables = train(model, images, masks, steps)
    predicted = np.asarray(jax.jit(model.apply)(variables, scenes)).argmax(-1)
    iou = (predicted & labels).sum() / (predicted | labels).sum()
    print(f"IoU of the digits: {iou:.0%}")
    found = aff_jax.fusion_weights(model, variables, scenes)
    np.savez("/tmp/w/docs/fig/w.npz", scenes=scenes, labels=labels, predicted=predicted, **{k.replace("/", "_"): np.asarray(v[0]) for k, v in found.items()})


if __name__ == "__main__":
    main()
