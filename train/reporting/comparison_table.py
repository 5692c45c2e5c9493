"""Compare variants over several seeds: statistics, a Markdown table, a JSON file and a plot."""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from train.reporting.metrics import DISPLAY_NAMES
from train.reporting.picture_file import write_picture

__all__ = [
    "RunResult",
    "Variant",
    "VariantSummary",
    "markdown_table",
    "summarize_variants",
    "write_comparison",
]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network that is compared, and its cost, which does not depend on the training.

    Attributes:
        label: Name of the variant in the table.
        dataset: Name of the dataset.
        model: Name of the host network.
        fusion: Name of the fusion.
        fusion_fields: Fields of the fusion.
        parameters: Number of trainable parameters.
        flops: Floating-point operations of a forward pass over one image; a multiply and an add
            count as two.
        batch_size: Number of examples in a training step.
    """

    label: str
    dataset: str
    model: str
    fusion: str
    fusion_fields: dict[str, Any]
    parameters: int
    flops: float
    batch_size: int


@dataclasses.dataclass(frozen=True)
class RunResult:
    """Result of one run.

    Attributes:
        label: Label of the variant.
        seed: Seed of the run.
        summary: Contents of its summary.json; None if the run failed.
        error: The error that ended the run, or an empty string.
    """

    label: str
    seed: int
    summary: Mapping[str, Any] | None = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class VariantSummary:
    """Statistics of one variant over its runs.

    Attributes:
        variant: The variant.
        values: Score of each seed in 0 .. 1; None if the run failed or is missing.
        mean: Mean of the scores. NaN if a seed failed or is missing, since a mean over fewer seeds
            is not comparable.
        std: Sample standard deviation of the scores, with the divisor n - 1. NaN for one seed.
        step_milliseconds: Time of a training step, the median over the seeds.
        run_seconds: Wall time of a run, the median over the seeds.
        errors: Error of each seed that failed.
        difference: Mean over the seeds of the score minus that of the baseline with the same seed.
            NaN for the baseline, and if one of the two means is NaN.
        half_width: Half the width of the 95 % confidence interval of `difference`. NaN for one
            seed.
    """

    variant: Variant
    values: dict[int, float | None]
    mean: float
    std: float
    step_milliseconds: float
    run_seconds: float
    errors: dict[int, str]
    difference: float = math.nan
    half_width: float = math.nan


def summarize_variants(
    variants: Sequence[Variant],
    results: Sequence[RunResult],
    seeds: Sequence[int],
    metric: str,
    baseline: str = "",
) -> list[VariantSummary]:
    """Compute the statistics of each variant.

    The differences to the baseline are paired by seed, and their interval is that of Student's t
    distribution::

        mean(d) +- t * std(d) / sqrt(n)

    where d are the differences of the n seeds, and t is the 97.5 % quantile with n - 1 degrees of
    freedom: 12.71 for two seeds, 4.30 for three, 2.78 for five.

    Args:
        variants: The variants.
        results: Results of runs. Runs of other seeds are ignored.
        seeds: The seeds to compare.
        metric: Name of the metric, such as `"accuracy"`; a summary has it as `eval_accuracy`.
        baseline: Label of the variant that the others are compared with, or an empty string.

    Returns:
        One entry for each variant with a result, from the highest mean down. Variants without a
        mean come last.
    """
    rows = []
    for variant in variants:
        runs = {x.seed: x for x in results if x.label == variant.label and x.seed in seeds}
        if not runs:
            continue
        found = {seed: run.summary for seed, run in runs.items() if run.summary is not None}
        summaries = list(found.values())
        values = {seed: summary[f"eval_{metric}"] for seed, summary in found.items()}
        speeds = [x["examples_per_second"] for x in summaries if x["examples_per_second"]]
        complete = len(values) == len(seeds)
        rows.append(
            VariantSummary(
                variant=variant,
                values={seed: values.get(seed) for seed in seeds},
                mean=statistics.mean(values.values()) if complete else math.nan,
                std=statistics.stdev(values.values()) if complete and len(seeds) > 1 else math.nan,
                step_milliseconds=_median(1000 * variant.batch_size / speed for speed in speeds),
                run_seconds=_median(summary["wall_seconds"] for summary in summaries),
                errors={seed: run.error for seed, run in runs.items() if run.error},
            )
        )
    base = next((row for row in rows if row.variant.label == baseline), None)
    if base is not None:
        rows = [_compare_with(base, row) for row in rows]
    return sorted(rows, key=lambda row: math.inf if math.isnan(row.mean) else -row.mean)


def _compare_with(base: VariantSummary, row: VariantSummary) -> VariantSummary:
    """Add the difference to the baseline, if all seeds of both have a score."""
    pairs = [(row.values[seed], base.values[seed]) for seed in row.values]
    differences = [x - y for x, y in pairs if x is not None and y is not None]
    if row is base or len(differences) < len(pairs):
        return row
    n, half_width = len(differences), math.nan
    if n > 1:
        half_width = stdtrit(n - 1, 0.975) * statistics.stdev(differences) / math.sqrt(n)
    return dataclasses.replace(
        row, difference=statistics.mean(differences), half_width=float(half_width)
    )


def markdown_table(rows: Sequence[VariantSummary], metric: str, baseline: str = "") -> str:
    """Format a comparison as a Markdown table with one line per variant.

    Args:
        rows: Statistics of the variants, from `summarize_variants`.
        metric: Name of the metric in `DISPLAY_NAMES`.
        baseline: Label of the variant that the others are compared with, or an empty string.

    Returns:
        The table. The highest mean is bold, and so are means that are printed the same. With a
        baseline it has a column of the differences to it, with their 95 % confidence intervals.
    """
    # Rounded values are compared, so that variants with the same printed mean are equally good.
    means = [row.mean for row in rows if not math.isnan(row.mean)]
    best = max(map(_percent, means), key=float, default="")
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(s for row in rows for s in row.values))
    heads = [
        "variant",
        f"test {DISPLAY_NAMES[metric]}, %, seeds {seeds}",
        "mean ± std",
        *([f"minus {_cell(baseline)}, points (95 %)"] if baseline else []),
        "parameters",
        "MFLOPs",
        "ms per step",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        mean = _percent(row.mean)
        spread = f" ± {_percent(row.std)}" if not math.isnan(row.std) else ""
        cells = [
            _cell(row.variant.label),
            " ".join(
                ("failed" if seed in row.errors else "-") if x is None else _percent(x)
                for seed, x in row.values.items()
            ),
            (f"**{mean}**" if mean == best else mean) + spread,
            *([_interval(row)] if baseline else []),
            f"{row.variant.parameters:,}",
            "-" if math.isnan(row.variant.flops) else f"{row.variant.flops / 1e6:.3g}",
            "-" if math.isnan(row.step_milliseconds) else f"{row.step_milliseconds:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(label: str) -> str:
    """Return a label as it is written in a cell of a table."""
    return label.replace("|", "\\|")


def _interval(row: VariantSummary) -> str:
    """Write the difference to the baseline in points, with its confidence interval."""
    if math.isnan(row.difference):
        return "-"
    # Adding zero turns -0.0 into 0.0.
    text = f"{round(100 * row.difference, 2) + 0.0:+.2f}"
    return text if math.isnan(row.half_width) else f"{text} ± {100 * row.half_width:.2f}"


def write_comparison(
    rows: Sequence[VariantSummary],
    metric: str,
    workdir: Path,
    log: Callable[[str], object],
    baseline: str = "",
) -> None:
    """Write comparison.md (the table), comparison.json (all numbers) and comparison.png.

    Args:
        rows: Statistics of the variants, from `summarize_variants`.
        metric: Name of the metric in `DISPLAY_NAMES`.
        workdir: Directory of the comparison. It is created if it does not exist.
        log: Called with a message if the plot cannot be drawn.
        baseline: Label of the variant that the others are compared with, or an empty string.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "comparison.md").write_text(markdown_table(rows, metric, baseline), encoding="utf-8")
    content = {
        "metric": metric,
        "baseline": baseline,
        "variants": [_replace_nan(dataclasses.asdict(row)) for row in rows],
    }
    (workdir / "comparison.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    values = {row.variant.label: [x for x in row.values.values() if x is not None] for row in rows}
    means = {row.variant.label: row.mean for row in rows if not math.isnan(row.mean)}
    differences = {
        row.variant.label: (row.difference, row.half_width)
        for row in rows
        if not math.isnan(row.difference)
    }

    def draw(file: Path) -> None:
        from train.reporting import plots  # matplotlib takes long to import

        plots.draw_comparison(
            values, means, DISPLAY_NAMES[metric], file, differences=differences, baseline=baseline
        )

    write_picture(workdir / "comparison.png", draw, log)


def _replace_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {name: _replace_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _median(numbers: Iterable[float]) -> float:
    """Return the median, or NaN if there are no numbers."""
    listed = list(numbers)
    return statistics.median(listed) if listed else math.nan


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"
