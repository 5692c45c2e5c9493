"""Many runs side by side: rows of numbers, and the table, the file and the picture of them."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.reporting.tasks import WORDS

__all__ = ["Result", "Row", "Variant", "markdown_table", "rows_of", "write_comparison"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compared: its label, and what its network costs, whatever comes out of training.

    `flops` are the floating-point operations of a forward pass over one image, where a multiply
    and an add are two; `batch_size` is that of a training step.
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
class Result:
    """What came out of one run: its summary.json, or the error that ended it."""

    variant: str
    seed: int
    summary: Mapping[str, Any] | None = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """The runs of one variant; shares are in 0 .. 1, times medians over the seeds.

    `mean` is NaN where a seed failed or is missing: one over the others would not be fair.
    `deviation` is the sample's, divided by n - 1, and NaN for a single seed.
    """

    variant: Variant
    values: dict[int, float | None]
    mean: float
    deviation: float
    step_milliseconds: float
    run_seconds: float
    errors: dict[int, str]


def rows_of(
    variants: Sequence[Variant], results: Sequence[Result], seeds: Sequence[int], score: str
) -> list[Row]:
    """A row a variant with a result, from the best mean down, and last those that have no mean.

    `score` is the metric's name in a summary without its `eval_`, such as "accuracy".
    """
    rows = []
    for variant in variants:
        runs = {x.seed: x for x in results if x.variant == variant.label and x.seed in seeds}
        if not runs:
            continue
        found = {seed: run.summary for seed, run in runs.items() if run.summary is not None}
        summaries = list(found.values())
        values = {seed: summary[f"eval_{score}"] for seed, summary in found.items()}
        speeds = [x["examples_per_second"] for x in summaries if x["examples_per_second"]]
        whole = len(values) == len(seeds)
        rows.append(
            Row(
                variant=variant,
                values={seed: values.get(seed) for seed in seeds},
                mean=statistics.mean(values.values()) if whole else math.nan,
                deviation=statistics.stdev(values.values())
                if whole and len(seeds) > 1
                else math.nan,
                step_milliseconds=_median(1000 * variant.batch_size / speed for speed in speeds),
                run_seconds=_median(summary["wall_seconds"] for summary in summaries),
                errors={seed: run.error for seed, run in runs.items() if run.error},
            )
        )
    return sorted(rows, key=lambda row: -row.mean if row.mean == row.mean else math.inf)


def markdown_table(rows: Sequence[Row], score: str) -> str:
    """A line a row; the best mean is in bold, and so is what reads the same."""
    # As they are printed, so that variants that read the same are equally good.
    best = max((_percent(row.mean) for row in rows if row.mean == row.mean), key=float, default="")
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(s for row in rows for s in row.values))
    lines = [
        f"| variant | test {WORDS[score]}, %, seeds {seeds} | mean ± deviation | parameters "
        "| MFLOPs | ms a step |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        mean = _percent(row.mean)
        spread = f" ± {_percent(row.deviation)}" if row.deviation == row.deviation else ""
        cells = [
            row.variant.label.replace("|", "\\|"),
            " ".join(
                ("failed" if seed in row.errors else "-") if x is None else _percent(x)
                for seed, x in row.values.items()
            ),
            (f"**{mean}**" if mean == best else mean) + spread,
            f"{row.variant.parameters:,}",
            "-" if math.isnan(row.variant.flops) else f"{row.variant.flops / 1e6:.3g}",
            "-" if math.isnan(row.step_milliseconds) else f"{row.step_milliseconds:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_comparison(rows: Sequence[Row], score: str, workdir: Path) -> None:
    """`comparison.md`, the table; `comparison.json`, all numbers; `comparison.png`, drawn."""
    from train.reporting import plots

    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "comparison.md").write_text(markdown_table(rows, score))
    content = {"metric": score, "variants": [_without_nan(dataclasses.asdict(row)) for row in rows]}
    (workdir / "comparison.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    values = {row.variant.label: [x for x in row.values.values() if x is not None] for row in rows}
    means = {row.variant.label: row.mean for row in rows if row.mean == row.mean}
    plots.draw_comparison(values, means, WORDS[score], workdir / "comparison.png")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _median(numbers: Iterable[float]) -> float:
    listed = list(numbers)
    return statistics.median(listed) if listed else math.nan


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f}"
