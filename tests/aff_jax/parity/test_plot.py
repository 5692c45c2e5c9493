"""The plot of the errors of a comparison."""

import dataclasses
import math
import re

import pytest

from aff_jax.parity.plot import plot_errors
from aff_jax.parity.result import Parity
from tests.aff_jax.parity.handmade_rows import ABSENT, OFF, OUT, SAME, ZERO


def test_the_plot_takes_its_colors_from_the_page():
    pytest.importorskip("matplotlib")
    svg = plot_errors([SAME, ZERO, OFF, ABSENT], 2)
    colors = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg))
    assert colors == {"none", "currentColor", "var(--equal)", "var(--different)"}


def test_errors_of_zero_do_not_stretch_the_axis():
    pytest.importorskip("matplotlib")

    def labels(rows):
        return re.findall(r"10\^\{(-?\d+)\}", plot_errors(rows, None))

    assert labels([SAME, ZERO, OUT]) == labels([SAME, OUT, OUT])


@pytest.mark.parametrize("allowed", [0.0, math.inf, math.nan])
def test_plots_errors_of_zero_and_unlimited_tolerances(allowed):
    pytest.importorskip("matplotlib")
    rows = [dataclasses.replace(row, allowed_rel=allowed) for row in (ZERO, OUT)]
    assert "<svg" in Parity(rows, "float32", allowed).to_html()
    assert "<svg" in Parity([dataclasses.replace(OUT, max_rel=math.nan)], "").to_html()
