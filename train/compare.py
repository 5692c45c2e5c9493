"""One table of many fusions.

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare

The config is one of `python -m train` with two more fields: `variants`, overrides by label, and
`seeds`. Every variant is trained with every seed in `WORKDIR/LABEL/seedN`; a comparison that is
started again goes on where it stopped, and does not train again what is finished.
"""

import csv
import dataclasses
import json
import statistics
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, logging
from ml_collections import ConfigDict
from rich.console import Console

from aff_jax.tables import unknown_name
from train.__main__ import COMPILATION_CACHE, CONFIG, TRACEBACK, WORKDIR, parse_flags

__all__ = ["Result", "compare", "markdown_table", "run_config", "write_results"]

Summary = Mapping[str, Any]
"""What a run's summary.json holds."""

CSV_COLUMNS = {
    "accuracy": "eval_accuracy",
    "loss": "eval_loss",
    "parameters": "parameters",
    "seconds": "wall_seconds",
    "images_per_second": "examples_per_second",
}
"""Columns of compare.csv, and what they are called in a summary."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out of one run: its summary, or the error that ended it."""

    variant: str
    seed: int
    summary: Summary | None = None
    error: str = ""


def compare(
    config: ConfigDict, workdir: Path, console: Console, tracebacks: bool = False
) -> list[Result]:
    """Train every variant with every seed; an error ends its own run only, and is told.

    Raises:
        ValueError, TypeError: the config has no variants or seeds, or a variant overrides a field
            that is not there or by a value of another type. Nothing is trained then.
    """
    for name in ("variants", "seeds"):
        if not config.get(name):
            raise ValueError(f"expected a config with `{name}`, as in configs/compare_digits.py.")
    runs = [
        (label, seed, run_config(config, label, seed))
        for label in config.variants.to_dict()
        for seed in config.seeds
    ]
    results = []
    for number, (label, seed, run) in enumerate(runs, start=1):
        console.print(
            f"\n{label}, seed {seed} ({number} of {len(runs)})", markup=False, highlight=False
        )
        try:
            summary = _train_once(run, workdir / label / f"seed{seed}", console)
            results.append(Result(label, seed, summary))
        except Exception as error:  # whatever it is, the other runs are not to be lost
            text = traceback.format_exc() if tracebacks else f"failed: {error}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            results.append(Result(label, seed, error=f"{type(error).__name__}: {error}"))
    return results


def run_config(config: ConfigDict, label: str, seed: int) -> ConfigDict:
    """The config of one run: the comparison's, with the overrides of that variant and that seed.

    Raises:
        ValueError: the label is no directory name, or overrides a field that is not there.
        TypeError: an override is of another type than the field.
    """
    if label in ("", ".", "..") or "/" in label:
        raise ValueError(f"expected the name of a directory as the label of a variant: {label!r}.")
    fields = config.to_dict()
    overrides = fields.pop("variants")[label]
    del fields["seeds"]
    for name in overrides:
        if name not in fields:
            raise ValueError(f"variant {label!r}: {unknown_name('config field', name, fields)}")
    run = ConfigDict(fields)
    run.update(overrides)
    run.seed = seed
    return run


def write_results(results: Sequence[Result], workdir: Path) -> None:
    """`compare.csv`, a line a run; `compare.md`, a row a variant; `compare.png`, the same drawn."""
    from train import plots

    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "compare.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["variant", "seed", *CSV_COLUMNS, "error"])
        for result in results:
            values = [(result.summary or {}).get(name) for name in CSV_COLUMNS.values()]
            lines.writerow([result.variant, result.seed, *values, result.error])
    (workdir / "compare.md").write_text(markdown_table(results))
    rows = _rows(results)
    accuracies = {label: _values(row, "eval_accuracy") for label, row in rows.items()}
    plots.draw_comparison(accuracies, _means(rows), workdir / "compare.png")


def markdown_table(results: Sequence[Result]) -> str:
    """A row a variant, from the best mean accuracy down, which is in bold.

    Seconds and speed are means over the seeds. A variant has a mean accuracy only where every seed
    was trained, since one over fewer seeds is no fair comparison.
    """
    rows = _rows(results)
    # As they are printed, so that variants that read the same are equally good.
    means = {label: _percent(mean) for label, mean in _means(rows).items()}
    best = max(means.values(), key=float, default="")
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(result.seed for result in results))
    lines = [
        f"| variant | test accuracy, %, seeds {seeds} | mean | parameters | seconds | images/s |",
        "|---|---|---|---|---|---|",
    ]
    for label, row in rows.items():
        mean = means.get(label, "-")
        cells = [
            label,
            " ".join(_percent(r.summary["eval_accuracy"]) if r.summary else "failed" for r in row),
            f"**{mean}**" if mean == best else mean,
            _mean(row, "parameters"),
            _mean(row, "wall_seconds"),
            _mean(row, "examples_per_second"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> None:
    """Train what is missing, and print the table and where it is."""
    if len(argv) > 1:
        raise SystemExit(f"error: expected flags only, got {' '.join(argv[1:])!r}.")
    logging.set_verbosity(logging.WARNING)  # Orbax and TFDS tell a page at each checkpoint
    from train.compilation import keep_compiled

    console, workdir = Console(), Path(WORKDIR.value)
    try:
        keep_compiled(COMPILATION_CACHE.value)
        results = compare(CONFIG.value, workdir, console, TRACEBACK.value)
        write_results(results, workdir)
    except (ValueError, TypeError, OSError) as error:
        if TRACEBACK.value:
            raise
        raise SystemExit(f"error: {error}") from error
    console.print(
        f"\n{markdown_table(results)}\nwritten to {workdir}:\n"
        "  compare.md     this table\n"
        "  compare.csv    a line for each run\n"
        "  compare.png    a dot for each run",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    failed = [f"{result.variant} (seed {result.seed})" for result in results if result.error]
    if failed:
        raise SystemExit(
            f"error: {len(failed)} of {len(results)} runs failed: {', '.join(failed)}. The same "
            f"command tries them again."
        )


def _train_once(run: ConfigDict, workdir: Path, console: Console) -> Summary:
    """The summary of a finished run; else trains it from where it stands."""
    # After the flags, so that a mistake in them does not wait for JAX.
    from train.loop import train
    from train.workdir import claim_workdir

    path = workdir / "summary.json"
    if path.exists():
        claim_workdir(workdir, run)  # refuses the results of another config
        console.print("finished before", highlight=False)
        summary: Summary = json.loads(path.read_text())
        return summary
    return train(run, workdir, console)


def _rows(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each variant, from the best mean accuracy down, and last what has none."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.variant, []).append(result)
    means = _means(rows)
    return {label: rows[label] for label in sorted(rows, key=lambda x: -means.get(x, -1.0))}


def _means(rows: Mapping[str, Sequence[Result]]) -> dict[str, float]:
    """Mean accuracy of the variants that were trained with every seed."""
    return {
        label: statistics.mean(_values(row, "eval_accuracy"))
        for label, row in rows.items()
        if all(result.summary for result in row)
    }


def _values(row: Sequence[Result], name: str) -> list[float]:
    """That number of the runs that have it."""
    found = [result.summary[name] for result in row if result.summary]
    return [value for value in found if value is not None]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _mean(row: Sequence[Result], name: str) -> str:
    values = _values(row, name)
    return f"{statistics.mean(values):,.0f}" if values else "-"


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
