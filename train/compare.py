"""One table of many fusions, hosts and scales.

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare

The config is one of `python -m train` with two more fields: `variants`, overrides by label, and
`seeds`. Every variant is trained with every seed in `WORKDIR/LABEL/seedN`; a comparison that is
started again goes on where it stopped, and does not train again what is finished.
"""

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict
from rich.console import Console

from aff_jax.lookup import unknown_name
from train.__main__ import COMPILATION_CACHE, CONFIG, TRACEBACK, WORKDIR, parse_flags
from train.reporting.comparison_table import (
    Result,
    Variant,
    markdown_table,
    rows_of,
    write_comparison,
)

__all__ = ["compare", "describe_variants", "finished", "run_config", "score_of"]

SUMMARY = "summary.json"

ONLY = flags.DEFINE_list("only", [], "Labels of the variants to train; all by default.")

OF_ONE_RUN = ("profile", "coordinator_address", "num_processes", "process_id", "process_timeout")
"""Flags of `python -m train` that a comparison does not take: many runs in one process."""


def compare(
    config: ConfigDict,
    workdir: Path,
    console: Console,
    labels: Sequence[str] = (),
    tracebacks: bool = False,
) -> Iterator[Result]:
    """Train the variants of those labels, or all, with every seed; the result of each as it ends.

    What is finished is not trained again. An error ends its own run only, and is told.
    """
    runs = [(label, seed) for label in labels or config.variants for seed in config.seeds]
    for number, (label, seed) in enumerate(runs, start=1):
        console.print(
            f"\n{label}, seed {seed} ({number} of {len(runs)})", markup=False, highlight=False
        )
        try:
            run = run_config(config, label, seed)
            summary = _train_once(run, _directory(workdir, label, seed), console)
            yield Result(label, seed, summary)
        except Exception as error:  # whatever it is, the other runs are not to be lost
            text = traceback.format_exc() if tracebacks else f"failed: {error}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            yield Result(label, seed, error=f"{type(error).__name__}: {error}")


def finished(config: ConfigDict, workdir: Path) -> list[Result]:
    """The results that are there already, of all variants and seeds.

    Raises:
        ValueError: a run's directory belongs to another config. Nothing is trained then, so that
            no finished comparison is replaced by the errors of another.
    """
    from train.reporting.workdir import CONFIG_FILE, claim_workdir

    results = []
    for label in config.variants:
        for seed in config.seeds:
            directory = _directory(workdir, label, seed)
            if (directory / CONFIG_FILE).exists():
                claim_workdir(directory, run_config(config, label, seed))
            if (directory / SUMMARY).exists():
                results.append(Result(label, seed, json.loads((directory / SUMMARY).read_text())))
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
        if name == "seed":
            raise ValueError(f"variant {label!r}: expected no seed of its own; `seeds` has them.")
        if name not in fields:
            raise ValueError(f"variant {label!r}: {unknown_name('config field', name, fields)}")
    run = ConfigDict(fields)
    run.update(overrides)
    run.seed = seed
    return run


def describe_variants(config: ConfigDict) -> list[Variant]:
    """What each variant's network costs, before any is trained.

    Raises:
        ValueError, TypeError: the config has no variants or seeds, or a variant can't be made.
        FileNotFoundError: its data set is not prepared.
    """
    for name in ("variants", "seeds"):
        if not config.get(name):
            raise ValueError(f"expected a config with `{name}`, as in configs/compare_digits.py.")
    # After the flags, so that a mistake in them does not wait for JAX.
    from train.config_checks import check_ranges
    from train.model import network_cost

    variants = []
    for label in config.variants:
        run = run_config(config, label, config.seeds[0])
        check_ranges(run)
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


def score_of(config: ConfigDict) -> str:
    """The metric that is compared: the score of the data set's task.

    Raises:
        ValueError: the variants' data sets are of several tasks.
    """
    from train.data.sources.datasets import find_dataset
    from train.reporting.tasks import TASKS

    scores = {
        label: TASKS[find_dataset(run_config(config, label, 0).dataset).task].score
        for label in config.variants
    }
    if len(set(scores.values())) > 1:
        raise ValueError(
            f"expected variants that are measured alike, got {scores}. Compare data sets of one "
            f"task at a time."
        )
    return next(iter(scores.values()))


def main(argv: Sequence[str]) -> None:
    """Train what is missing, and print the table and where it is."""
    if len(argv) > 1:
        raise SystemExit(f"error: expected flags only, got {' '.join(argv[1:])!r}.")
    for name in OF_ONE_RUN:
        if flags.FLAGS[name].present:
            raise SystemExit(f"error: --{name} is for `python -m train`, not for a comparison.")
    logging.set_verbosity(logging.WARNING)  # Orbax and TFDS tell a page at each checkpoint
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.runtime.malloc import retain_freed_memory

    console, workdir = Console(), Path(WORKDIR.value)
    try:
        retain_freed_memory()
        enable_compilation_cache(COMPILATION_CACHE.value)
        config, labels = CONFIG.value, ONLY.value
        variants, score = describe_variants(config), score_of(config)
        for label in labels:
            if label not in config.variants:
                raise ValueError(unknown_name("variant", label, config.variants))
        results = {(r.variant, r.seed): r for r in finished(config, workdir)}
        for result in compare(config, workdir, console, labels, TRACEBACK.value):
            results[result.variant, result.seed] = result
            # After each, so that a comparison that is stopped leaves what it has.
            rows = rows_of(variants, list(results.values()), config.seeds, score)
            write_comparison(rows, score, workdir)
    except (ValueError, TypeError, OSError) as error:
        if TRACEBACK.value:
            raise
        raise SystemExit(f"error: {error}") from error
    console.print(
        f"\n{markdown_table(rows, score)}\nwritten to {workdir}:\n"
        "  comparison.md     this table\n"
        "  comparison.json   all numbers of it\n"
        "  comparison.png    a dot for each run",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    failed = [f"{r.variant} (seed {r.seed})" for r in results.values() if r.error]
    if failed:
        message = (
            f"{len(failed)} of {len(results)} runs failed, for the reasons above: "
            f"{', '.join(failed)}. The same command tries these again, from their checkpoints."
        )
        if any(result.error.startswith("FeedError") for result in results.values()):
            from train.runtime.distributed import exit_immediately

            exit_immediately(RuntimeError(message))  # an ordinary end would wait for what hangs
        raise SystemExit(f"error: {message}")


def _directory(workdir: Path, label: str, seed: int) -> Path:
    return workdir / label / f"seed{seed}"


def _train_once(run: ConfigDict, workdir: Path, console: Console) -> Mapping[str, Any]:
    """The summary of a finished run; else trains it from where it stands."""
    import jax

    from train.loop import train
    from train.reporting.workdir import claim_workdir

    path = workdir / SUMMARY
    if path.exists():
        claim_workdir(workdir, run)  # refuses the results of another config
        console.print("finished before", highlight=False)
        summary: Mapping[str, Any] = json.loads(path.read_text())
        return summary
    try:
        return train(run, workdir, console)
    finally:
        jax.clear_caches()  # the next run has functions of its own; these would pile up


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
