"""One table of many fusions, hosts and scales.

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare

The config is one of `python -m train` with two more fields: `variants`, overrides by label, and
`seeds`. Every variant is trained with every seed in `WORKDIR/LABEL/seedN`; a comparison that is
started again goes on where it stopped, and does not train again what is finished.
"""

import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict
from rich.console import Console

from aff_jax.tables import unknown_name
from train.__main__ import COMPILATION_CACHE, CONFIG, TRACEBACK, WORKDIR, parse_flags
from train.comparison import Result, Variant, markdown_table, rows_of, write_comparison

__all__ = ["compare", "describe_variants", "run_config", "score_of"]

ONLY = flags.DEFINE_list("only", [], "Labels of the variants to train and show; all by default.")


def compare(
    config: ConfigDict, workdir: Path, console: Console, tracebacks: bool = False
) -> list[Result]:
    """Train every variant with every seed; an error ends its own run only, and is told."""
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
    from train.network import network_cost

    variants = []
    for label in config.variants.to_dict():
        run = run_config(config, label, config.seeds[0])
        parameters, flops = network_cost(run)
        variants.append(Variant(label, run.model, run.fusion, parameters, flops, run.batch_size))
    return variants


def score_of(config: ConfigDict) -> str:
    """The metric that is compared: the score of the data set's task."""
    from train.data.datasets import find_dataset
    from train.tasks import TASKS

    return TASKS[find_dataset(config.dataset).task].score


def main(argv: Sequence[str]) -> None:
    """Train what is missing, and print the table and where it is."""
    if len(argv) > 1:
        raise SystemExit(f"error: expected flags only, got {' '.join(argv[1:])!r}.")
    logging.set_verbosity(logging.WARNING)  # Orbax and TFDS tell a page at each checkpoint
    from train.compilation import keep_compiled

    console, workdir = Console(), Path(WORKDIR.value)
    try:
        keep_compiled(COMPILATION_CACHE.value)
        config = _only(CONFIG.value, ONLY.value)
        variants, score = describe_variants(config), score_of(config)
        results = compare(config, workdir, console, TRACEBACK.value)
        rows = rows_of(variants, results, score)
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
    failed = [f"{result.variant} (seed {result.seed})" for result in results if result.error]
    if failed:
        raise SystemExit(
            f"error: {len(failed)} of {len(results)} runs failed: {', '.join(failed)}. The same "
            f"command tries them again."
        )


def _only(config: ConfigDict, labels: Sequence[str]) -> ConfigDict:
    """The config with these variants alone, in the config's order; all where none is named."""
    variants = config.get("variants", ConfigDict())
    for label in labels:
        if label not in variants:
            raise ValueError(unknown_name("variant", label, variants))
    if labels:
        config = ConfigDict(config.to_dict())
        for label in [label for label in variants if label not in labels]:
            del config.variants[label]
    return config


def _train_once(run: ConfigDict, workdir: Path, console: Console) -> Mapping[str, Any]:
    """The summary of a finished run; else trains it from where it stands."""
    from train.loop import train
    from train.workdir import claim_workdir

    path = workdir / "summary.json"
    if path.exists():
        claim_workdir(workdir, run)  # refuses the results of another config
        console.print("finished before", highlight=False)
        summary: Mapping[str, Any] = json.loads(path.read_text())
        return summary
    return train(run, workdir, console)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
