"""Results of handmade comparisons: the first mismatch, and the text, JSON and page they give."""

import json
import math
import re

from aff_jax.parity.result import Parity
from aff_jax.parity.rows import ONLY_JAX, Row
from tests.aff_jax.parity.handmade_rows import ABSENT, OFF, OUT, SAME, ZERO

ONE_SIDED = Row("c", "c", 1, (2,), note=ONLY_JAX)
EXPLANATION = "The layer `stage1_block0/fuse` has a gain of 1 & PyTorch's is 2. " * 3


def test_a_call_of_one_side_counts_only_if_the_next_row_differs():
    assert Parity([SAME, ONE_SIDED, OUT], "float32").equal
    assert Parity([SAME, ONE_SIDED, OFF, OUT], "float32").first_mismatch is ONE_SIDED
    assert Parity([SAME, OFF, OUT], "float32").first_mismatch is OFF


def test_without_a_compared_output_it_is_not_equal():
    assert not Parity([SAME], "float32").equal
    assert Parity([SAME], "float32").first_mismatch is None


def test_text_marks_differing_rows_and_names_the_first():
    text = Parity([SAME, ZERO, OFF, ABSENT], "float32", 1e-4).to_text()
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
    assert "iteration 2 of the fusion stage1_block0/fuse" in verdict


def test_text_of_equal_networks_has_the_largest_error():
    text = Parity([SAME, ZERO, OUT], "float64", 1e-6).to_text()
    expected = "the largest error is 2.0e-07, at stem/conv."
    assert text.endswith(expected)
    assert "Equal: 3 activations in float64" in text
    assert text.splitlines()[0].endswith("allowed")


def test_the_explanation_is_a_paragraph_of_its_own():
    outcome = Parity([SAME, OFF, OUT], "float32", explanation=EXPLANATION)
    _, verdict, explanation = outcome.to_text().split("\n\n")
    assert "gain" not in verdict
    assert explanation.replace("\n", " ") == EXPLANATION.strip()
    assert max(map(len, explanation.splitlines())) <= 100
    page = outcome.to_html()
    assert "<code>stage1_block0/fuse</code> has a gain of 1 &amp; PyTorch&#x27;s" in page
    assert "Explanation" not in Parity([SAME, OUT], "float32").to_html()


def test_json_is_strict_and_complete():
    outcome = Parity(
        [SAME, OFF, ABSENT], "float32", math.inf, explanation=EXPLANATION, about={"seed": "3"}
    )
    content = json.loads(outcome.to_json())
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
        "allowed_rel": 1e-4,
        "note": "",
        "differs": False,
    }
