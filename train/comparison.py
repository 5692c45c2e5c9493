"""Compare variants of a config: train each with several seeds, and collect the results.

A comparison's config is the config of a run with two more fields: `variants`, overrides by label,
and `seeds`.
"""

import dataclasses
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from aff_jax.lookup import unknown_name
from train.config_checks import check_config
from train.data.feed_timeout import FeedError
from train.data.sources.datasets import find_dataset
from train.model import network_cost
from train.reporting.comparison_table import (
    RunResult,
    Variant,
    markdown_table,
    summarize_variants,
    write_comparison,
)
from train.reporting.config_file import CONFIG_FILE
from train.reporting.metrics import TASK_METRICS
from train.reporting.workdir import SUMMARY_FILE, claim_workdir
from train.start import train

__all__ = [
    "Comparison",
    "compare",
    "comparison_metric",
    "describe_variants",
    "finished_results",
    "run_comparison",
    "run_config",
]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        table: The results as a Markdown table.
        error: An error that names the failed runs, or None.
    """

    table: str
    error: Exception | None


def run_comparison(
    config: ConfigDict,
    workdir: Path,
    console: Console,
    labels: Sequence[str] = (),
    tracebacks: bool = False,
) -> Comparison:
    """Train the missing runs as `compare` does, and write the table after each run.

    Args:
        config: The config of the comparison.
        workdir: Directory of the comparison.
        console: Where to print.
        labels: Labels of the variants to train; all by default.
        tracebacks: Whether to print the traceback of an error.

    Returns:
        The table of all finished runs, and an error if some runs failed.

    Raises:
        ValueError: If the config or one of its variants is invalid, or a label is unknown.
        TypeError: If a variant overrides a field with a value of another type.
        FileNotFoundError: If a dataset is not prepared.
    """
    variants, metric = describe_variants(config), comparison_metric(config)
    baseline = config.get("baseline", "")
    for label in labels:
        if label not in config.variants:
            raise ValueError(unknown_name("variant", label, config.variants))
    results = {(x.label, x.seed): x for x in finished_results(config, workdir)}
    for result in compare(config, workdir, console, labels, tracebacks):
        results[result.label, result.seed] = result
        # After each run, so that the table exists if the comparison is stopped.
        rows = summarize_variants(variants, list(results.values()), config.seeds, metric, baseline)
        log = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        write_comparison(rows, metric, workdir, log, baseline)
    return Comparison(markdown_table(rows, metric, baseline), _failure(list(results.values())))


def compare(
    config: ConfigDict,
    workdir: Path,
    console: Console,
    labels: Sequence[str] = (),
    tracebacks: bool = False,
) -> Iterator[RunResult]:
    """Train variants with every seed, and yield each result when its run ends.

    Finished runs are not trained again. An error ends its own run only, and is printed.

    Args:
        config: The config of the comparison.
        workdir: Directory of the comparison.
        console: Where to print.
        labels: Labels of the variants to train; all by default.
        tracebacks: Whether to print the traceback of an error.

    Yields:
        The result of each run, with an error if the run failed.
    """
    runs = [(label, seed) for label in labels or config.variants for seed in config.seeds]
    for number, (label, seed) in enumerate(runs, start=1):
        console.print(
            f"\n{label}, seed {seed} ({number} of {len(runs)})", markup=False, highlight=False
        )
        try:
            run_settings = run_config(config, label, seed)
            summary = _train_once(run_settings, _run_workdir(workdir, label, seed), console)
            yield RunResult(label, seed, summary)
        except Exception as error:  # an error of any class, since it must not end the other runs
            text = traceback.format_exc() if tracebacks else f"failed: {error}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            yield RunResult(label, seed, error=f"{type(error).__name__}: {error}")


def finished_results(config: ConfigDict, workdir: Path) -> list[RunResult]:
    """Read the results of the finished runs of all variants and seeds.

    Args:
        config: The config of the comparison.
        workdir: Directory of the comparison.

    Returns:
        One result for each finished run.

    Raises:
        ValueError: If the workdir of a run belongs to another config. This is checked before any
            training, so that errors do not replace the results of a finished comparison.
    """
    results = []
    for label in config.variants:
        for seed in config.seeds:
            directory = _run_workdir(workdir, label, seed)
            if (directory / CONFIG_FILE).exists():
                claim_workdir(directory, run_config(config, label, seed))
            if (directory / SUMMARY_FILE).exists():
                summary = json.loads((directory / SUMMARY_FILE).read_text())
                results.append(RunResult(label, seed, summary))
    return results


def run_config(config: ConfigDict, label: str, seed: int) -> ConfigDict:
    """Return the config of one run: the comparison's with a variant's overrides and a seed.

    Args:
        config: The config of the comparison.
        label: Label of the variant.
        seed: Seed of the run.

    Returns:
        A config without the fields of a comparison: `variants`, `seeds` and `baseline`.

    Raises:
        ValueError: If the label is not the name of a directory, or the variant overrides a field
            that does not exist.
        TypeError: If an override has another type than the field.
    """
    if label in ("", ".", "..") or "/" in label:
        raise ValueError(f"expected the name of a directory as the label of a variant: {label!r}.")
    fields = config.to_dict()
    overrides = fields.pop("variants")[label]
    del fields["seeds"]
    fields.pop("baseline", None)
    for name in overrides:
        if name == "seed":
            raise ValueError(f"variant {label!r}: expected no field `seed`; `seeds` has them.")
        if name not in fields:
            raise ValueError(f"variant {label!r}: {unknown_name('config field', name, fields)}")
    run = ConfigDict(fields)
    run.update(overrides)
    run.seed = seed
    return run


def describe_variants(config: ConfigDict) -> list[Variant]:
    """Check all variants before any is trained, and compute the cost of their networks.

    Args:
        config: The config of the comparison.

    Returns:
        One description for each variant, in the order of the config.

    Raises:
        ValueError: If the config has no variants or seeds, or a variant is invalid or the baseline
            is none of them.
        TypeError: If a variant overrides a field with a value of another type.
        FileNotFoundError: If a dataset is not prepared.
    """
    for name in ("variants", "seeds"):
        if not config.get(name):
            raise ValueError(f"expected a config with `{name}`, as in configs/compare_digits.py.")
    baseline = config.get("baseline", "")
    if baseline and baseline not in config.variants:
        raise ValueError(f"baseline: {unknown_name('variant', baseline, config.variants)}")
    variants = []
    for label in config.variants:
        run = run_config(config, label, config.seeds[0])
        check_config(run)
        parameters, flops = network_cost(run)
        variants.append(
            Variant(
                label=label,
                dataset=run.dataset,
                model=run.model,
                fusion=run.fusion,
                fusion_fields=run.fusion_fields.to_dict(),
                parameters=parameters,
                flops=flops,
                batch_size=run.batch_size,
            )
        )
    return variants


def comparison_metric(config: ConfigDict) -> str:
    """Return the name of the metric to compare, which is the score of the dataset's task.

    Args:
        config: The config of the comparison.

    Returns:
        A name in `DISPLAY_NAMES`, such as `"accuracy"`.

    Raises:
        ValueError: If the variants' datasets have different tasks.
    """
    scores = {
        label: TASK_METRICS[find_dataset(run_config(config, label, 0).dataset).task].score_name
        for label in config.variants
    }
    if len(set(scores.values())) > 1:
        raise ValueError(
            f"expected variants with the same metric, got {scores}. Compare datasets of one task "
            f"at a time."
        )
    return next(iter(scores.values()))


def _run_workdir(workdir: Path, label: str, seed: int) -> Path:
    return workdir / label / f"seed{seed}"


def _train_once(run: ConfigDict, workdir: Path, console: Console) -> Mapping[str, Any]:
    """Return the summary of a run, and train it to the end before if it is not finished."""
    path = workdir / SUMMARY_FILE
    if path.exists():
        claim_workdir(workdir, run)  # raises if the results have another config
        console.print("already finished", highlight=False)
        summary: Mapping[str, Any] = json.loads(path.read_text())
        return summary
    try:
        return train(run, workdir, console)
    finally:
        jax.clear_caches()  # no later run uses this run's functions, so the cache would only grow


def _failure(results: Sequence[RunResult]) -> Exception | None:
    """Return an error that names the failed runs, or None."""
    failed = [result for result in results if result.error]
    if not failed:
        return None
    names = ", ".join(f"{result.label} (seed {result.seed})" for result in failed)
    message = (
        f"{len(failed)} of {len(results)} runs failed, for the reasons above: {names}. The same "
        f"command tries these again, from their checkpoints."
    )
    # After a feed that hangs, the process cannot exit in the ordinary way.
    hangs = any(result.error.startswith(FeedError.__name__) for result in failed)
    return FeedError(message) if hangs else RuntimeError(message)
