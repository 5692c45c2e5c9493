"""Cache plans on disk, by config, topology, versions and source code."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path

from ml_collections import ConfigDict

import aff_jax
import train.setup
from aff_jax.files.atomic_write import atomic_file
from train.plan.estimate import Plan

__all__ = ["PACKAGES", "PlanCache", "versions"]

PACKAGES = ("jax", "jaxlib", "flax", "optax", "libtpu", "jax-cuda12-plugin")
"""Packages whose version changes what is compiled."""

# Fields that change neither the program nor the estimate.
_WITHOUT_EFFECT = ("seed", "data_workers", "keep_checkpoints", "checkpoint_every_minutes")


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
        """Return the plan of a config, or None if there is none yet or it can't be read.

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
            return Plan(**json.loads(path.read_text()))
        except (OSError, TypeError, ValueError):  # written by another version, or damaged
            return None

    def put(self, config: ConfigDict, topology: str, plan: Plan) -> None:
        """Cache a plan.

        Args:
            config: The config.
            topology: Name of the topology.
            plan: Its plan.

        Raises:
            OSError: If the directory can't be written to.
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
