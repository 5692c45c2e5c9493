"""Text, JSON and HTML reports of handmade comparisons."""

import dataclasses
import html.parser
import json
import math
import re
import sys

import flax.linen as nn
import numpy as np
import pytest
import torch

from aff_jax import parity
from aff_jax.parity import report as parity_report
from aff_jax.parity.about import describe
from aff_jax.parity.comparison import Parity
from aff_jax.parity.plot import plot_errors
from aff_jax.parity.recording import Inputs
from aff_jax.parity.rows import ONLY_FLAX, Row

SHAPE, LAYOUT = (2, 4, 4, 8), "channels first"
SAME = Row("conv1", "stem/conv", 1, SHAPE, LAYOUT, 1e-7, 2e-7, 1e-4)
ZERO = Row("bn1", "stem/norm", 1, SHAPE, LAYOUT, 0.0, 0.0, 1e-4)
OFF = Row("fuse.sigmoid", "stage1_block0/fuse/sigmoid", 2, SHAPE, LAYOUT, 0.5, 0.25, 1e-4)
OUT = Row("", "", 1, (2, 10), "same", 1e-8, 1e-8, 1e-4)
ABSENT = Row("<b>", "", 1, (2, 10), note=ONLY_FLAX)


EXPLANATION = "The layer `stage1_block0/fuse` has a gain of 1 & PyTorch's is 2. " * 3


def test_text_marks_differing_rows_and_names_the_first():
    text = parity_report.to_text(Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4))
    table, verdict = text.split("\n\n")
    header, *lines = table.splitlines()
    assert header.split("  ")[-1] == "note"
    assert [line.startswith("!") for line in lines] == [False, False, True, True]
    assert re.split("  +", lines[0].strip()) == [
        "conv1",
        "stem/conv",
        "1",
        "2x4x4x8",
        "channels first",
        "1.0e-07",
        "2.0e-07",
        "1.0e-04",
    ]
    assert lines[3].endswith("called in Flax only")
    assert verdict.startswith("Different: 2 of 4 activations differ in float32, tolerance 1e-04")
    assert "pass 2 of the fusion stage1_block0/fuse" in verdict


def test_text_of_equal_networks_has_the_largest_error():
    text = parity_report.to_text(Parity([SAME, ZERO, OUT], "float64", 1e-6))
    expected = "the largest error is 2.0e-07, at stem/conv."
    assert text.endswith(expected)
    assert "Equal: 3 activations in float64" in text
    assert text.splitlines()[0].endswith("allowed")


def test_the_explanation_is_a_paragraph_of_its_own():
    outcome = Parity([SAME, OFF, OUT], "float32", explanation=EXPLANATION)
    _, verdict, explanation = parity_report.to_text(outcome).split("\n\n")
    assert "gain" not in verdict
    assert explanation.replace("\n", " ") == EXPLANATION.strip()
    assert max(map(len, explanation.splitlines())) <= 100
    page = parity_report.to_html(outcome)
    assert "<code>stage1_block0/fuse</code> has a gain of 1 &amp; PyTorch&#x27;s" in page
    assert "Explanation" not in parity_report.to_html(Parity([SAME, OUT], "float32"))


def test_json_is_strict_and_complete():
    outcome = Parity(
        [SAME, OFF, ABSENT], "float32", math.inf, explanation=EXPLANATION, about={"seed": "3"}
    )
    content = json.loads(parity_report.to_json(outcome))
    assert content["equal"] is False
    assert content["verdict"].startswith("Different: 2 of 3")
    assert content["explanation"] == EXPLANATION
    assert (content["about"], content["tolerance"]) == ({"seed": "3"}, None)
    assert content["first_mismatch"]["path"] == "stage1_block0/fuse/sigmoid"
    assert [row["differs"] for row in content["rows"]] == [False, True, True]
    assert content["rows"][0] == {
        "name": "conv1",
        "path": "stem/conv",
        "call": 1,
        "shape": [2, 4, 4, 8],
        "layout": "channels first",
        "max_abs": 1e-7,
        "max_rel": 2e-7,
        "allowed": 1e-4,
        "note": "",
        "differs": False,
    }


EMPTY = ("meta", "input")  # tags without an end


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced, and counts them by the id of the group that contains them."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.counts, self.targets = [], [None], {}, []
        self.feed(page)
        assert self.open == []
        assert all(f'id="{target}"' in page for target in self.targets)

    def count(self, tag):
        for key in (tag, (self.ids[-1], tag)):
            self.counts[key] = self.counts.get(key, 0) + 1

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        links = [value for name, value in attributes.items() if name in ("src", "href")]
        links += [value for name, value in attributes.items() if name.endswith(":href")]
        assert all(link.startswith("#") for link in links)  # the page loads nothing
        self.targets += [link[1:] for link in links]
        self.count(tag)
        if tag not in EMPTY:
            self.open.append(tag)
            self.ids.append(attributes.get("id", self.ids[-1]))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.ids.pop()


def test_html_is_well_formed_and_self_contained():
    outcome = Parity(
        [SAME, ZERO, OFF, ABSENT], "float32", 1e-4, about={"command": "aff-jax <compare>"}
    )
    page = parity_report.to_html(outcome, "a & b")
    counts = Page(page).counts
    # The header, the titles of the blocks "stem" and "stage1_block0", and the rows.
    assert counts["tr"] == 1 + 2 + 4
    assert counts["tbody"] == 3
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "<title>Different: a &amp; b</title>" in page
    assert '<h1 class="different">Different</h1>' in page
    assert "<dt>command</dt><dd>aff-jax &lt;compare&gt;</dd><dt>dtype</dt><dd>float32</dd>" in page
    assert '<a href="#row-2">Go to the first mismatch</a>' in page
    assert '<tr id="row-2" class="different"><td>differs</td><td>fuse.sigmoid</td>' in page
    assert "<td>channels first</td><td>5.0e-01</td><td>2.5e-01</td><td>1.0e-04</td>" in page
    assert "stage1_block0, 1 of 1 differ" in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(
    ("rows", "word"), [([SAME, OUT], "Equal"), ([OFF, OUT], "Different"), ([SAME], "Undecided")]
)
def test_the_heading_has_the_outcome_in_words_and_color(rows, word):
    page = parity_report.to_html(Parity(rows, "float32"))
    assert f'<h1 class="{word.lower()}">{word}</h1>' in page
    assert ("first mismatch</a>" in page) == (word == "Different")


def test_the_plot_has_a_mark_per_activation_the_allowed_errors_and_the_first_mismatch():
    pytest.importorskip("matplotlib")
    outcome = Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4)
    page = parity_report.to_html(outcome)
    counts = Page(page).counts
    assert counts["svg"] == 1
    # Each mark is a link to its row.
    for group in ("equal", "zero", "different", "not-compared"):
        assert counts[group, "a"] == 1
    assert counts["allowed", "path"] == counts["mismatch", "path"] == 1
    assert "vertical line: first mismatch" in page
    assert parity_report.to_html(outcome) == page

    equal = Page(parity_report.to_html(Parity([SAME, ZERO, OUT], "float32", 1e-4))).counts
    assert ("mismatch", "path") not in equal
    assert ("different", "a") not in equal


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


def test_html_without_matplotlib_has_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = parity_report.to_html(Parity([SAME, OUT], "float32", 1e-4))
    assert Page(page).counts["tbody"] == 2
    assert "<svg" not in page
    assert "No plot: it needs matplotlib" in page


def test_networks_are_not_equal_if_their_outputs_were_not_compared():
    outcome = Parity([SAME], "float32", 1e-4, unmatched=["head"])
    assert not outcome.equal
    assert parity_report.to_text(outcome).endswith(
        "Undecided: the outputs were not compared. "
        "Not compared, as they have no counterpart: 1 layers (head)."
    )


@pytest.mark.parametrize("allowed", [0.0, math.inf, math.nan])
def test_plots_errors_of_zero_and_unlimited_tolerances(allowed):
    pytest.importorskip("matplotlib")
    rows = [dataclasses.replace(row, allowed=allowed) for row in (ZERO, OUT)]
    assert "<svg" in parity_report.to_html(Parity(rows, "float32", allowed))
    assert "<svg" in parity_report.to_html(Parity([dataclasses.replace(OUT, max_rel=math.nan)], ""))


def test_a_comparison_says_what_was_compared():
    x = np.ones((2, 3), np.float32)
    outcome = parity.compare(torch.nn.Linear(3, 4), nn.Dense(4), None, x)
    assert outcome.about["Flax inputs"] == outcome.about["PyTorch inputs"] == "float32 2x3"
    assert outcome.about["PyTorch module"] == "Linear"
    assert outcome.about["versions"].startswith("aff_jax ")
    inputs = Inputs((x, True, None), {"mask": np.ones(3, bool)})
    described = describe(torch.nn.Linear(3, 4), nn.Dense(4), inputs, Inputs((), {}))
    assert described["Flax inputs"] == "float32 2x3, True, None, mask=bool 3"
    assert described["PyTorch inputs"] == "none"
