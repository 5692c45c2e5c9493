"""Tests of the results page, the JSON file and the plots."""

import json

from benchmarks.plots import draw_seconds, draw_sides
from benchmarks.results import describe_machine, markdown_table, write_results


def test_cells_have_three_digits_and_none_is_a_dash():
    rows = [{"side": "a", "ms": 0.012345, "ratio": 1.0}, {"side": "b", "ms": 1234.5, "ratio": None}]
    assert markdown_table(rows).splitlines() == [
        "| side | ms | ratio |",
        "|---|---|---|",
        "| a | 0.0123 | 1.00 |",
        "| b | 1234 | - |",
    ]


def test_the_page_and_the_json_file_have_the_tables_and_the_machine(tmp_path):
    machine = describe_machine(threads=2)
    tables = {"Evaluation": [{"module": "AFF", "ms": 2.0}]}
    flags = ["--rounds", "7"]
    page = write_results(tmp_path / "new", "modules", "Title", tables, ["A note."], machine, flags)
    assert (tmp_path / "new" / "modules.md").read_text() == page
    record = json.loads((tmp_path / "new" / "modules.json").read_text())
    assert record == {"machine": machine, "tables": tables, "notes": ["A note."]}
    assert "`python -m benchmarks.modules --rounds 7` on" in page
    for text in ("| AFF | 2.00 |", "A note.", machine["processor"], machine["versions"]["jax"]):
        assert text in page


def test_plots_are_drawn_if_cases_lack_sides(tmp_path):
    cases = {"AFF": {"PyTorch": 1.0, "aff_jax": 2.0, "torch.compile": 1.4}, "add": {"PyTorch": 1.0}}
    draw_sides({"Training": cases}, "times as fast", tmp_path / "sides.png")
    draw_seconds({"Import": {"torch": 1.0}}, tmp_path / "seconds.png")
    assert {p.name for p in tmp_path.iterdir()} == {"sides.png", "seconds.png"}
