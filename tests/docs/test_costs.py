"""The costs of fusions in the guide are those of the benchmark."""

from tests.docs.documents import ROOT


def test_costs_over_addition_are_those_of_the_benchmark():
    measured = (ROOT / "benchmarks" / "results" / "networks.md").read_text()
    section = measured.split("## What a fusion costs over addition")[1].split("## ")[0]
    rows = [row.split(" | ")[:4] for row in section.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 5
    guide = (ROOT / "docs" / "results.md").read_text().replace("`", "")
    for row in rows:
        assert f"\n{' | '.join(row)} |\n" in guide
