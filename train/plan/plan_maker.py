"""Make plans of configs, and keep them on disk by config, topology, versions and source code."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import time
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console

import aff_jax
import train.setup
from aff_jax.files.atomic_write import atomic_file
from train.plan.estimate import Plan, estimate
from train.plan.program import compile_step
from train.plan.topologies import Topology, describe_topology
from train.plan.traffic import Operation

__all__ = ["PACKAGES", "PlanCache", "PlanMaker", "versions"]

PACKAGES = ("jax", "jaxlib", "flax", "optax", "libtpu", "jax-cuda12-plugin")
"""Packages whose version changes what is compiled."""

_WITHOUT_EFFECT = ("seed", "data_workers", "keep_checkpoints", "checkpoint_every_minutes")
"""Fields that change neither the program nor the estimate."""


def versions() -> dict[str, str]:
    """Return the installed version of each of `PACKAGES`."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class PlanCache:
    """Plans that were made before.

    Args:
        directory: Directory of the plans, or None to cache none. It is created when it is needed.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def get(self, config: ConfigDict, topology: str) -> Plan | None:
        """Return the plan of a config, or None if there is none yet or it cannot be read.

        Args:
            config: The config.
            topology: Name of the topology.

        Returns:
            The plan, or None.
        """
        path = self._path(config, topology)
        if path is None or not path.exists():
            return None
        try:
            fields = json.loads(path.read_text())
            fields["operations"] = tuple(Operation(**x) for x in fields["operations"])
            return Plan(**fields)
        except (KeyError, OSError, TypeError, ValueError):  # written by another version, or damaged
            return None

    def put(self, config: ConfigDict, topology: str, plan: Plan) -> None:
        """Cache a plan.

        Args:
            config: The config.
            topology: Name of the topology.
            plan: Its plan.

        Raises:
            OSError: If the directory cannot be written to.
        """
        path = self._path(config, topology)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, overwrite=True) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(plan), indent=1) + "\n")

    def _path(self, config: ConfigDict, topology: str) -> Path | None:
        if self._directory is None:
            return None
        fields = {k: v for k, v in config.to_dict().items() if k not in _WITHOUT_EFFECT}
        key = [fields, topology, versions(), _source_digest()]
        text = json.dumps(key, sort_keys=True, default=str)
        return self._directory / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


@functools.cache
def _source_digest() -> str:
    """Return a digest of the source code of the library and of the training application."""
    digest = hashlib.sha256()
    for module in (aff_jax.__file__, train.setup.__file__):
        for path in sorted(Path(str(module)).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


class PlanMaker:
    """Makes plans for one topology.

    Args:
        topology: Name of the topology. It is described to its compiler when a plan is not kept yet.
        cache: Plans that were made before.
        console: Where to report progress.
    """

    def __init__(self, topology: str, cache: PlanCache, console: Console) -> None:
        self._name = topology
        self._cache = cache
        self._console = console
        self._topology: Topology | None = None

    def plan(self, config: ConfigDict) -> Plan:
        """Return the plan of a config.

        Args:
            config: The config.

        Returns:
            The plan, from the cache or compiled.

        Raises:
            ValueError: If a field of the config is invalid on these devices, or there is no
                such topology.
            ModuleNotFoundError: If the compiler is not installed.
        """
        plan = self._cache.get(config, self._name)
        if plan is not None:
            return plan
        if self._topology is None:
            self._topology = describe_topology(self._name)
        start = time.perf_counter()
        parts = f", {config.accumulation} microbatches" if config.accumulation > 1 else ""
        remat = ", remat" if config.model_fields.get("remat") else ""
        doing = (
            f"compiling {config.model} with {config.fusion}, batch {config.batch_size}{parts}"
            f"{remat}, for {self._name}; this takes seconds to minutes"
        )
        # On a terminal, rich also shows a spinner. A log file has only the two lines.
        self._console.print(doing, soft_wrap=True)
        with self._console.status("compiling ..."):
            plan = estimate(config, self._topology, compile_step(config, self._topology))
        self._console.print(f"done in {time.perf_counter() - start:.0f} s\n")
        self._cache.put(config, self._name, plan)
        return plan
