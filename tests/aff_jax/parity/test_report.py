"""A comparison on paper: table, JSON and HTML of rows that are made by hand."""

import html.parser
import json

from aff_jax.parity import report as parity_report
from aff_jax.parity.comparison import Parity, Row

SAME = Row("conv1", "stem/conv", 1, (2, 4, 4, 8), 1e-7, 2e-7)
ZERO = Row("bn1", "stem/norm", 1, (2, 4, 4, 8), 0.0, 0.0)
OFF = Row("fuse.sigmoid", "stage1_block0/fuse/sigmoid", 2, (2, 4, 4, 8), 0.5, 0.25)
OUT = Row("", "", 1, (2, 10), 1e-8, 1e-8)
ABSENT = Row("<b>", "", 1, (2, 10), None, None, "ran here only")


def test_text_marks_what_parts_and_names_the_first():
    text = parity_report.to_text(Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4))
    lines = text.splitlines()
    assert [line.startswith("!") for line in lines[1:5]] == [False, False, True, True]
    assert lines[1].split() == ["conv1", "stem/conv", "1", "2x4x4x8", "1.0e-07", "2.0e-07"]
    assert lines[-1].startswith("Different: 2 of 4 activations part in float32, tolerance 1e-04")
    assert "pass 2 of the fusion stage1_block0/fuse" in lines[-1]


def test_text_of_equal_networks_tells_the_largest_error():
    text = parity_report.to_text(Parity([SAME, ZERO, OUT], "float64", 1e-6))
    expected = "the largest error is 2.0e-07, at stem/conv."
    assert text.endswith(expected)
    assert "Equal: 3 activations in float64" in text


def test_json_is_strict_and_complete():
    content = json.loads(parity_report.to_json(Parity([SAME, OFF, ABSENT], "float32", 1e-4)))
    assert content["equal"] is False
    assert content["first_mismatch"]["path"] == "stage1_block0/fuse/sigmoid"
    assert [row["within"] for row in content["rows"]] == [True, False, False]
    assert content["rows"][0] == {
        "name": "conv1",
        "path": "stem/conv",
        "call": 1,
        "shape": [2, 4, 4, 8],
        "max_abs": 1e-7,
        "max_rel": 2e-7,
        "note": "",
        "within": True,
    }


def test_html_is_one_well_formed_page_with_a_point_a_row():
    page = parity_report.to_html(Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4), "a & b")
    open_tags, counts = [], {}

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            counts[tag] = counts.get(tag, 0) + 1
            assert "src" not in dict(attributes)
            assert "href" not in dict(attributes)
            if tag != "meta":
                open_tags.append(tag)

        def handle_startendtag(self, tag, attributes):
            counts[tag] = counts.get(tag, 0) + 1

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []
    assert counts["circle"] == 3  # one row has nothing to plot
    assert counts["tr"] == 5
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "<h1>a &amp; b</h1>" in page


def test_without_an_output_nothing_is_called_equal():
    outcome = Parity([SAME], "float32", 1e-4, unmatched=["head"])
    assert not outcome.equal
    assert parity_report.to_text(outcome).endswith(
        "Undecided: the outputs were not compared. "
        "Not compared, for want of a counterpart: 1 layers (head)."
    )


def test_errors_of_zero_and_no_tolerance_can_be_drawn():
    for tolerance in (0.0, float("inf")):
        assert "<svg" in parity_report.to_html(Parity([ZERO, OUT], "float32", tolerance))
