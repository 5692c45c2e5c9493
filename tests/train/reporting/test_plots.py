"""Test the colors, legends and sizes of plots."""

import os

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from aff_jax.images import ImageTask
from aff_jax.images.class_colors import DISTINCT_COLORS
from train.data.batch import IGNORED_LABEL
from train.reporting import plots


def large_colors(path):
    """Return the colors that fill more than 10,000 pixels of an image."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    colors, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(color) for color in colors[counts > 10_000].tolist()}


def rgb(name):
    return tuple(round(255 * value) for value in to_rgb(name))


def task_of(names, colors=()):
    """Segmentation of these classes."""
    return ImageTask("segmentation", names, (8, 8), 1, (0.5,), (0.5,), class_colors=colors)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_class_has_its_color(tmp_path, channels):
    images = np.full((2, 8, 8, channels), 77, np.uint8)
    labels, predictions = np.zeros((2, 2, 8, 8), np.int32)
    labels[0, :4], labels[1, :4] = 1, 4
    predictions[1, 4:] = 10
    names = ["background", *"bcdefghijk"]
    plots.draw_predictions(images, labels, predictions, task_of(names), tmp_path / "p.png")
    colors = large_colors(tmp_path / "p.png")
    expected = {rgb(DISTINCT_COLORS[k - 1]) for k in (1, 4, 10)} | {(0, 0, 0), (77, 77, 77)}
    assert expected <= colors
    assert colors - expected == {(255, 255, 255)}  # the background of the figure


def test_the_colors_of_a_dataset_come_first(tmp_path):
    images, labels = np.full((2, 8, 8, 1), 77, np.uint8), np.ones((2, 8, 8), np.int32)
    task = task_of(["a", "b"], ["#102030", "#405060"])
    plots.draw_predictions(images, labels, labels, task, tmp_path / "p.png")
    assert (0x40, 0x50, 0x60) in large_colors(tmp_path / "p.png")


@pytest.mark.parametrize(("classes", "shape"), [(2, (5, 9)), (3, (64, 64)), (150, (40, 20))])
def test_draws_any_number_of_classes_and_any_size(tmp_path, classes, shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, classes, (1, *shape))
    predictions = rng.integers(0, classes, (1, *shape))
    assert (labels == IGNORED_LABEL).any()
    names = [f"class {k}" for k in range(classes)]
    plots.draw_predictions(
        np.zeros((1, *shape, 3), np.uint8), labels, predictions, task_of(names), tmp_path / "p.png"
    )
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_legend_names_the_largest_classes(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    labels = np.repeat(np.arange(100), np.arange(1, 101))[None, None, :]  # class k has k + 1 pixels
    names = [f"class {k}" for k in range(100)]
    images = np.zeros((*labels.shape, 1), np.uint8)
    plots.draw_predictions(images, labels, labels, task_of(names), tmp_path / "p.png")
    (legend,) = saved[0].legends
    assert [text.get_text() for text in legend.get_texts()] == names[-plots.MAX_NAMED_CLASSES :]


LITERAL = {
    "$10_$20": r"\$10_\$20",  # matplotlib draws \$ as $
    "$x^2$": r"\$x^2\$",
    r"a\$b": r"a\\$b",
    os.fsdecode(b"caf\xe9"): r"caf\udce9",  # not UTF-8
    "two\nlines\0": r"two\nlines\x00",
    "_background": "_background",
    "n" * 300: "n" * (plots._MAX_NAME_LENGTH - 1) + "…",
}
"""The texts that are given to matplotlib for the names of classes."""


def test_names_are_drawn_literally(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    labels, images = np.arange(7).reshape(1, 1, 7), np.zeros((1, 1, 7, 1), np.uint8)
    plots.draw_predictions(images, labels, labels, task_of([*LITERAL]), tmp_path / "predictions")
    plots.draw_confusion(np.eye(7, dtype=int), [*LITERAL], tmp_path / "confusion")
    scores = {name: [0.5] for name in LITERAL}
    plots.draw_comparison(scores, {}, "accuracy", tmp_path / "comparison")
    predictions, confusion, comparison = figures
    for texts in (
        predictions.legends[0].get_texts(),
        confusion.axes[0].get_xticklabels(),
        confusion.axes[0].get_yticklabels(),
        comparison.axes[0].get_yticklabels(),
    ):
        assert [text.get_text() for text in texts] == [*LITERAL.values()]
    assert not any(matplotlib.cbook.is_math_text(text) for text in LITERAL.values())


def test_a_font_without_the_letters_of_a_name_is_one_warning(tmp_path):
    with pytest.warns(
        UserWarning, match=r"^matplotlib: Glyph .*\(and 1 more warnings\)$"
    ) as caught:
        plots.draw_confusion(np.eye(9, dtype=int), [*LITERAL, "猫", "犬"], tmp_path / "c.png")
    assert len(caught) == 1


@pytest.fixture
def figures(monkeypatch):
    """The figures that would be saved."""
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    return saved


@pytest.mark.parametrize(
    ("confusion", "title", "numbers"),
    [
        ([[3, 0], [9999, 1]], "numbers: counts", ["3", "9999", "1"]),
        (
            [[3, 0], [1_000_000, 1]],
            "numbers: percent of the class",
            ["100", "100", "<1"],
        ),
    ],
)
def test_the_numbers_of_a_confusion_matrix_have_one_unit(
    tmp_path, figures, confusion, title, numbers
):
    plots.draw_confusion(np.array(confusion), ["a", "b"], tmp_path / "c.png")
    axis = figures[0].axes[0]
    assert axis.get_title() == title
    assert [text.get_text() for text in axis.texts] == numbers


def loss_ticks(figures, tmp_path, losses):
    """Return the visible labels of the axis of the loss."""
    lines = [{"kind": "train", "step": step, "loss": loss} for step, loss in enumerate(losses)]
    plots.draw_curves(lines, tmp_path / "curves.png")
    axis = figures[0].axes[0]
    low, high = axis.get_ylim()
    labels = axis.yaxis.get_major_ticks()
    figures[0].canvas.draw()
    return axis.get_yscale(), [
        tick.label1.get_text() for tick in labels if low <= tick.get_loc() <= high
    ]


def test_the_logarithmic_axis_of_the_loss_has_plain_labels(tmp_path, figures):
    scale, labels = loss_ticks(figures, tmp_path, [1.2, 0.5, 0.09])
    assert (scale, labels) == ("log", ["0.1", "0.2", "0.5", "1"])


def test_the_axis_of_a_loss_that_changes_little_is_linear(tmp_path, figures):
    scale, labels = loss_ticks(figures, tmp_path, [0.9, 0.6])
    assert scale == "linear"
    assert len(labels) >= 3


def test_curves_name_the_evaluation_split(tmp_path, figures):
    lines = [{"kind": "eval", "step": 1, "loss": 1.0, "accuracy": 0.5}]
    plots.draw_curves(lines, tmp_path / "curves.png", "validation")
    assert [text.get_text() for text in figures[0].axes[-1].get_legend().get_texts()] == [
        "validation"
    ]


def test_classified_images_have_their_class_and_a_wrong_prediction(tmp_path, figures):
    images = np.zeros((4, 5, 9, 1), np.uint8)
    labels, predictions = np.array([0, 1, 1, IGNORED_LABEL]), np.array([0, 0, 1, 1])
    plots.draw_classified(images, labels, predictions, task_of(["cat", "$dog"]), tmp_path / "p.png")
    titles = [axis.get_title() for axis in figures[0].axes]
    assert titles == [
        "cat\npredicted correctly",
        "\\$dog\npredicted: cat",
        "\\$dog\npredicted correctly",
        "ignored\npredicted: \\$dog",
        "",
        "",
    ]
