"""Test statistics, tables and files of comparisons, from given summaries."""

import json
import math
import statistics

import pytest
import scipy.stats

from train.reporting import plots
from train.reporting.comparison_table import (
    RunResult,
    Variant,
    markdown_table,
    summarize_variants,
    write_comparison,
)


def variant(label, **changes):
    fields = {
        "label": label,
        "dataset": "digits",
        "model": "cifar_resnet8",
        "fusion": label,
        "fusion_fields": {},
        "parameters": 77562,
        "flops": 2.5e6,
        "batch_size": 64,
    }
    return Variant(**{**fields, **changes})


def summary(accuracy, **changes):
    fields = {"eval_accuracy": accuracy, "wall_seconds": 15.4, "examples_per_second": 8000.0}
    return {**fields, **changes}


VARIANTS = [variant("aff", parameters=83778), *map(variant, ("add", "sk", "se"))]
RESULTS = [
    RunResult("aff", 0, summary(0.9889, examples_per_second=None)),
    RunResult("aff", 1, summary(0.9945, examples_per_second=None)),
    RunResult("add", 0, summary(0.9944)),
    RunResult("add", 1, summary(0.9916, examples_per_second=4000.0, wall_seconds=17.4)),
    RunResult("sk", 0, summary(1.0)),
    RunResult("sk", 1, error="NonFiniteError: a loss of nan"),
    RunResult("se", 0, error="ValueError: no"),
    RunResult("se", 1, error="ValueError: no"),
]


@pytest.fixture(scope="module")
def rows():
    return summarize_variants(VARIANTS, RESULTS, (0, 1), "accuracy")


def test_table_has_each_seed_and_the_best_mean_in_bold(rows):
    """`sk` has no mean, since the seed that failed could have had its lowest score."""
    assert markdown_table(rows, "accuracy").splitlines() == [
        "| variant | test accuracy, %, seeds 0, 1 | mean ± std | parameters | MFLOPs "
        "| ms per step |",
        "|---|---|---|---|---|---|",
        "| add | 99.44 99.16 | **99.30** ± 0.20 | 77,562 | 2.5 | 12.0 |",
        "| aff | 98.89 99.45 | 99.17 ± 0.40 | 83,778 | 2.5 | - |",
        "| sk | 100.00 failed | - | 77,562 | 2.5 | 8.0 |",
        "| se | failed failed | - | 77,562 | 2.5 | - |",
    ]


def test_summaries_have_means_standard_deviations_and_medians(rows):
    add = rows[0]
    assert add.mean == pytest.approx(statistics.mean([0.9944, 0.9916]))
    assert add.std == pytest.approx(statistics.stdev([0.9944, 0.9916]))
    assert add.step_milliseconds == (1000 * 64 / 8000 + 1000 * 64 / 4000) / 2
    assert add.run_seconds == pytest.approx(16.4)
    assert math.isnan(rows[2].mean)
    assert rows[2].errors == {1: "NonFiniteError: a loss of nan"}


def test_one_seed_has_no_standard_deviation():
    (row,) = summarize_variants([variant("add")], RESULTS[2:3], (0,), "accuracy")
    assert math.isnan(row.std)
    assert "| **99.44** |" in markdown_table([row], "accuracy")


def test_no_mean_while_a_seed_is_missing():
    rows = summarize_variants(VARIANTS, RESULTS[:3], (0, 1), "accuracy")
    assert [row.variant.label for row in rows] == ["aff", "add"]  # the others have no result yet
    assert "| add | 99.44 - | - |" in markdown_table(rows, "accuracy")


def test_unknown_values_are_dashes_and_null(tmp_path):
    unknown = variant("a|b", flops=math.nan)
    rows = summarize_variants([unknown], [RunResult("a|b", 0, summary(0.5))], (0,), "accuracy")
    assert "| a\\|b | 50.00 | **50.00** | 77,562 | - | 8.0 |" in markdown_table(rows, "accuracy")
    write_comparison(rows, "accuracy", tmp_path, pytest.fail)
    (row,) = json.loads((tmp_path / "comparison.json").read_text())["variants"]
    assert row["variant"]["flops"] is None


def test_variants_with_the_same_printed_mean_are_both_bold():
    results = [RunResult("aff", 0, summary(0.98888)), RunResult("add", 0, summary(0.98889))]
    table = markdown_table(summarize_variants(VARIANTS[:2], results, (0,), "accuracy"), "accuracy")
    assert table.count("**98.89**") == 2


def test_segmentation_is_compared_by_mean_iou():
    result = RunResult("aff", 0, {**summary(0.9), "eval_mean_iou": 0.25})
    table = markdown_table(summarize_variants(VARIANTS[:1], [result], (0,), "mean_iou"), "mean_iou")
    assert "| variant | test mean IoU, %, seeds 0 |" in table
    assert "**25.00**" in table


def test_writes_json_table_and_plot(rows, tmp_path):
    write_comparison(rows, "accuracy", tmp_path / "new", pytest.fail)
    content = json.loads((tmp_path / "new" / "comparison.json").read_text())
    assert content["metric"] == "accuracy"
    add, _, sk, se = content["variants"]
    assert add["variant"]["label"] == "add"
    assert add["values"] == {"0": 0.9944, "1": 0.9916}
    assert sk["values"] == {"0": 1.0, "1": None}
    assert sk["mean"] is None
    assert se["errors"] == {"0": "ValueError: no", "1": "ValueError: no"}
    assert (tmp_path / "new" / "comparison.md").read_text() == markdown_table(rows, "accuracy")
    assert (tmp_path / "new" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def three_seeds(label, *accuracies):
    return [RunResult(label, seed, summary(value)) for seed, value in enumerate(accuracies)]


def test_differences_to_the_baseline_are_paired_by_seed():
    """The oracle is SciPy's paired t test, whose interval for these values does not include 0."""
    accuracies = {"add": (0.90, 0.92, 0.85), "aff": (0.92, 0.95, 0.88), "sk": (0.9, 0.9, 0.9)}
    results = [run for label, values in accuracies.items() for run in three_seeds(label, *values)]
    rows = summarize_variants(VARIANTS, results, (0, 1, 2), "accuracy", "add")
    found = {row.variant.label: row for row in rows}
    assert math.isnan(found["add"].difference)
    for label in ("aff", "sk"):
        expected = scipy.stats.ttest_rel(accuracies[label], accuracies["add"]).confidence_interval()
        middle, half_width = (expected.low + expected.high) / 2, (expected.high - expected.low) / 2
        assert found[label].difference == pytest.approx(middle)
        assert found[label].half_width == pytest.approx(half_width)
    table = markdown_table(rows, "accuracy", "add").splitlines()
    assert "| mean ± std | minus add, points (95 %) | parameters |" in table[0]
    assert "| **91.67** ± 3.51 | +2.67 ± 1.43 | 83,778 |" in table[2]
    assert "| 89.00 ± 3.61 | - | 77,562 |" in table[4]


def test_one_seed_has_a_difference_without_an_interval():
    rows = summarize_variants(VARIANTS, RESULTS, (0,), "accuracy", "add")
    assert "| +0.56 |" in markdown_table(rows, "accuracy", "add")


def test_a_difference_that_rounds_to_zero_has_no_minus():
    results = [*three_seeds("add", 0.5), *three_seeds("aff", 0.49999)]
    rows = summarize_variants(VARIANTS, results, (0,), "accuracy", "add")
    assert "| +0.00 |" in markdown_table(rows, "accuracy", "add")


def test_no_difference_while_a_seed_is_missing():
    rows = summarize_variants(VARIANTS, RESULTS, (0, 1, 2), "accuracy", "add")
    assert all(math.isnan(row.difference) for row in rows)


def test_the_plot_has_the_differences(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    rows = summarize_variants(VARIANTS, RESULTS, (0, 1), "accuracy", "add")
    write_comparison(rows, "accuracy", tmp_path, pytest.fail, "add")
    left, right = figures[0].axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["add", "aff", "sk", "se"]
    assert right.get_xlabel() == "minus add, points (95 %)"
    (drawn,) = right.containers
    assert drawn.lines[0].get_xdata() == pytest.approx(100 * rows[1].difference)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["baseline"] == "add"
    assert content["variants"][0]["difference"] is None
