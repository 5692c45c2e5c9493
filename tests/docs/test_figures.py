"""Figures in the README and the guides are those of the files that they come from."""

import json
import re
import statistics
import tomllib

import pytest

from tests.docs.documents import DOCUMENTS, ROOT

README = DOCUMENTS["README.md"]


def row_of(variant, label):
    """A row of the README's table, but for its last column."""
    percents = [100 * variant["values"][seed] for seed in sorted(variant["values"])]
    values = " ".join(f"{value:.2f}" for value in percents)
    mean, deviation = statistics.fmean(percents), statistics.stdev(percents)
    return (
        rf"\| {label} \| {re.escape(values)} \| (\*\*)?{mean:.2f}(\*\*)? ± {deviation:.2f} "
        rf"\| {variant['variant']['parameters']:,} \|"
    )


@pytest.mark.parametrize("name", ["compare_digits", "compare_scales", "compare_scenes"])
def test_results_are_those_of_the_runs(name):
    results = json.loads((ROOT / "notebooks" / "results" / f"{name}.json").read_text())
    for variant in results["variants"]:
        label = variant["variant"]["label"]
        if label == "local+global":  # AFF as it is, which has a row as `aff`
            label = "aff"
        scales = label.split("+")
        written = f"`aff`, {scales[0]} \\+ {scales[1]}" if scales[1:] else f"`{label}`"
        assert re.search(row_of(variant, written), README), label


def test_the_oldest_versions_are_those_that_are_tested_and_allowed():
    table = DOCUMENTS["docs/deploy.md"].partition("## Versions")[2]
    oldest = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \|$", table, re.MULTILINE))
    minimum = (ROOT / "tests" / "minimum.txt").read_text()
    pinned = dict(re.findall(r"^(\w+)==(\S+)$", minimum, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = dict(entry.split(">=") for entry in project["dependencies"])
    assert project["requires-python"] == f">={oldest.pop('Python')}"
    assert oldest.keys() == {"JAX", "Flax", "NumPy"}
    for name, version in oldest.items():
        assert pinned[name.lower()] == version
        assert version.startswith(allowed[name.lower()])


def test_the_fastest_of_a_benchmark_is_not_all_that_is_told():
    """The README's ratios of frozen AFF, one device and a device a core, within 30 %."""
    tables = json.loads((ROOT / "benchmarks" / "results" / "modules.json").read_text())["tables"]
    rows = tables["Evaluation, geometric mean over the shapes"]
    measured = {
        row["side"]: row["times PyTorch eager, faster layout"]
        for row in rows
        if row["module"] == "AFF"
    }
    told = re.search(
        r"frozen AFF is ([\d.]+) times .* \(with a\s+device a core ([\d.]+) to ([\d.]+)",
        README,
        re.DOTALL,
    )
    alone, low, high = map(float, told.groups())
    assert measured["frozen"] == pytest.approx(alone, rel=0.3)
    assert low <= round(measured["frozen, 2 devices"], 1) <= high
