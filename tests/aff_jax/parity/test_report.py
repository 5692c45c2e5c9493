"""Text and JSON reports of handmade comparisons."""

import json
import math
import re

from aff_jax.parity import report as parity_report
from aff_jax.parity.result import Parity
from tests.aff_jax.parity.handmade_rows import ABSENT, OFF, OUT, SAME, ZERO

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
    assert lines[3].endswith("called in JAX only")
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
