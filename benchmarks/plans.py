"""Plan the recipes in configs/ on TPU slices: do they fit, how long do they take, what costs AFF.

    python -m benchmarks.plans
    python -m benchmarks.plans --configs digits cifar10_resnet8

It needs `pip install -e '.[train,plan]'`, and compiles each training step with AFF and with
addition, which takes minutes for each of the large networks. The plans are cached, and the table is
written after each recipe, so a run that was stopped resumes. Rows of recipes that are not planned
stay in the table: `--configs` plans again what has changed.
"""

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from aff_jax.files.user_cache import user_cache
from benchmarks.results import Row, describe_machine, write_results
from train.plan.estimate import Plan
from train.plan.plan_maker import PlanCache, PlanMaker, versions

__all__ = ["RECIPES", "main", "plan_row"]

RECIPES = {
    "digits": ("v5e:2x2",),
    "digit_scenes": ("v5e:2x2",),
    "cifar10_resnet8": ("v5e:2x2",),
    "cifar10_resnet32": ("v5e:2x2",),
    "cifar10_resnext29": ("v5e:2x2",),
    "cifar100_resnet32": ("v5e:2x2",),
    "cifar100_resnext47": ("v5e:2x2",),
    "stop_sign_fpn": ("v5e:2x2",),
    "imagenet_resnet50": ("v5e:4x4", "v5p:2x2x1"),
    "imagenet_resnet50_v1d": ("v5e:4x4", "v5p:2x2x1"),
    "imagenet_resnext50_v1d": ("v5e:4x4", "v5p:2x2x1"),
}
"""The slices on which each config is planned."""


def plan_row(config: str, plan: Plan, add: Plan) -> Row:
    """Return the row of a recipe.

    Args:
        config: Name of the config.
        plan: Its plan.
        add: The plan of the same config with addition.

    Returns:
        The row.
    """
    times = plan.estimated_step_seconds, add.estimated_step_seconds
    ratio = times[0] / times[1] if times[0] and times[1] else None
    return {
        "config": config,
        "slice": plan.topology,
        "batch per chip": plan.batch_size / plan.chips,
        "fits": "yes" if plan.fits else "no",
        "GiB per chip": plan.memory_bytes_per_chip / 2**30,
        "step ms": 1e3 * times[0] if times[0] else None,
        "of it communication": 1e3 * (plan.communication_seconds or 0.0),
        "images/s": plan.images_per_second,
        "hours": plan.hours,
        "step over add": ratio,
        "bytes over add": (plan.bytes_per_step or 0) / add.bytes_per_step
        if add.bytes_per_step
        else None,
        "libtpu": versions()["libtpu"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan all recipes, and write the table.

    Args:
        arguments: Flags; those of the command by default.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--output", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")
    console = Console(highlight=False)
    cache = PlanCache(user_cache("plans"))
    rows = _earlier_rows(Path(options.output) / "plans.json")
    machine = describe_machine(1)
    notes = [
        "The times are estimates from the compiled training step, as docs/plan.md says. Nothing "
        "was run on a TPU.",
        "Each row was planned with its version of libtpu, and may be older than others.",
    ]
    for name in options.configs:
        config: Any = importlib.import_module(f"configs.{name}").get_config()
        for topology in RECIPES[name]:
            maker = PlanMaker(topology, cache, console)
            plan = maker.plan(config)
            other = config.copy_and_resolve_references()
            other.fusion = "add"
            row = rows[name, topology] = plan_row(name, plan, maker.plan(other))
            table = [
                rows[key]
                for key in ((config, slice_) for config in RECIPES for slice_ in RECIPES[config])
                if key in rows
            ]
            title = "The recipes on TPU slices, planned"
            write_results(options.output, "plans", title, {"recipes": table}, notes, machine)
            console.print(row, soft_wrap=True)


def _earlier_rows(path: Path) -> dict[tuple[str, str], Row]:
    """Return the rows of an earlier table by config and slice."""
    if not path.exists():
        return {}
    rows = json.loads(path.read_text())["tables"]["recipes"]
    return {(row["config"], row["slice"]): row for row in rows}


if __name__ == "__main__":
    main()
