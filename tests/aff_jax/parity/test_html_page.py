"""The page of a comparison: its structure, heading, links and plot."""

import html.parser
import sys

import pytest

from aff_jax.parity.result import Parity
from tests.aff_jax.parity.handmade_rows import ABSENT, OFF, OUT, SAME, ZERO

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
    page = outcome.to_html("a & b")
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
    page = Parity(rows, "float32").to_html()
    assert f'<h1 class="{word.lower()}">{word}</h1>' in page
    assert ("first mismatch</a>" in page) == (word == "Different")


def test_the_plot_has_a_mark_per_activation_the_allowed_errors_and_the_first_mismatch():
    pytest.importorskip("matplotlib")
    outcome = Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4)
    page = outcome.to_html()
    counts = Page(page).counts
    assert counts["svg"] == 1
    # Each mark is a link to its row.
    for group in ("equal", "zero", "different", "not-compared"):
        assert counts[group, "a"] == 1
    assert counts["allowed", "path"] == counts["mismatch", "path"] == 1
    assert "vertical line: first mismatch" in page
    assert outcome.to_html() == page

    equal = Page(Parity([SAME, ZERO, OUT], "float32", 1e-4).to_html()).counts
    assert ("mismatch", "path") not in equal
    assert ("different", "a") not in equal


def test_html_without_matplotlib_has_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = Parity([SAME, OUT], "float32", 1e-4).to_html()
    assert Page(page).counts["tbody"] == 2
    assert "<svg" not in page
    assert "No plot: it needs matplotlib" in page
