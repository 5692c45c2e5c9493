"""Text, JSON and HTML reports of handmade comparisons."""

import html.parser
import json
import sys

import pytest

from aff_jax.parity import report as parity_report
from aff_jax.parity.comparison import Parity
from aff_jax.parity.rows import ONLY_FLAX, Row

SHAPE, LAYOUT = (2, 4, 4, 8), "channels first"
SAME = Row("conv1", "stem/conv", 1, SHAPE, LAYOUT, 1e-7, 2e-7, 1e-4)
ZERO = Row("bn1", "stem/norm", 1, SHAPE, LAYOUT, 0.0, 0.0, 1e-4)
OFF = Row("fuse.sigmoid", "stage1_block0/fuse/sigmoid", 2, SHAPE, LAYOUT, 0.5, 0.25, 1e-4)
OUT = Row("", "", 1, (2, 10), "same", 1e-8, 1e-8, 1e-4)
ABSENT = Row("<b>", "", 1, (2, 10), note=ONLY_FLAX)


def test_text_marks_differing_rows_and_names_the_first():
    text = parity_report.to_text(Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4))
    lines = text.splitlines()
    assert [line.startswith("!") for line in lines[1:5]] == [False, False, True, True]
    assert lines[1].split() == ["conv1", "stem/conv", "1", "2x4x4x8", "1.0e-07", "2.0e-07"]
    assert lines[-1].startswith("Different: 2 of 4 activations differ in float32, tolerance 1e-04")
    assert "pass 2 of the fusion stage1_block0/fuse" in lines[-1]


def test_text_of_equal_networks_has_the_largest_error():
    text = parity_report.to_text(Parity([SAME, ZERO, OUT], "float64", 1e-6))
    expected = "the largest error is 2.0e-07, at stem/conv."
    assert text.endswith(expected)
    assert "Equal: 3 activations in float64" in text


def test_json_is_strict_and_complete():
    content = json.loads(parity_report.to_json(Parity([SAME, OFF, ABSENT], "float32", 1e-4)))
    assert content["equal"] is False
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


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced, and counts them by the id of the group that contains them."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.counts = [], [None], {}
        self.feed(page)
        assert self.open == []

    def count(self, tag):
        for key in (tag, (self.ids[-1], tag)):
            self.counts[key] = self.counts.get(key, 0) + 1

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        links = [value for name, value in attributes.items() if name in ("src", "href")]
        links += [value for name, value in attributes.items() if name.endswith(":href")]
        assert all(link.startswith("#") for link in links)  # the page loads nothing
        self.count(tag)
        if tag != "meta":
            self.open.append(tag)
            self.ids.append(attributes.get("id", self.ids[-1]))

    def handle_startendtag(self, tag, attributes):
        if tag != "meta":
            self.handle_starttag(tag, attributes)
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.ids.pop()


def test_html_is_well_formed_and_self_contained():
    page = parity_report.to_html(Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4), "a & b")
    assert Page(page).counts["tr"] == 5
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "<h1>a &amp; b</h1>" in page


def test_the_plot_has_a_point_per_activation_the_tolerance_and_the_first_mismatch():
    pytest.importorskip("matplotlib")
    outcome = Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4)
    page = parity_report.to_html(outcome)
    counts = Page(page).counts
    assert counts["svg"] == 1
    # One row has no error to plot.
    assert (counts["equal", "use"], counts["different", "use"]) == (2, 1)
    assert counts["tolerance", "path"] == counts["first-mismatch", "path"] == 1
    assert "vertical line: first mismatch" in page
    assert parity_report.to_html(outcome) == page

    equal = Page(parity_report.to_html(Parity([SAME, ZERO, OUT], "float32", 1e-4))).counts
    assert ("first-mismatch", "path") not in equal
    assert ("different", "use") not in equal


def test_html_without_matplotlib_has_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = parity_report.to_html(Parity([SAME, OUT], "float32", 1e-4))
    assert Page(page).counts["tr"] == 3
    assert "<svg" not in page
    assert "No plot: it needs matplotlib" in page


def test_networks_are_not_equal_if_their_outputs_were_not_compared():
    outcome = Parity([SAME], "float32", 1e-4, unmatched=["head"])
    assert not outcome.equal
    assert parity_report.to_text(outcome).endswith(
        "Undecided: the outputs were not compared. "
        "Not compared, as they have no counterpart: 1 layers (head)."
    )


def test_plots_errors_of_zero_and_unlimited_tolerances():
    pytest.importorskip("matplotlib")
    for tolerance in (0.0, float("inf")):
        assert "<svg" in parity_report.to_html(Parity([ZERO, OUT], "float32", tolerance))
