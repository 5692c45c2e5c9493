"""Make plans of configs, and report progress."""

import time

from ml_collections import ConfigDict
from rich.console import Console

from train.plan.cache import PlanCache
from train.plan.dataset_shapes import open_shapes
from train.plan.estimate import Plan, estimate
from train.plan.program import compile_step
from train.plan.topologies import Topology, describe_topology

__all__ = ["PlanMaker"]


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
        # A status with a clock on a terminal, and the two lines in a file.
        self._console.print(doing, soft_wrap=True)
        with self._console.status("compiling ..."):
            plan = estimate(config, self._topology, compile_step(config, self._topology))
        self._console.print(f"done in {time.perf_counter() - start:.0f} s\n")
        self._cache.put(config, self._name, plan)
        return plan

    def examples(self, config: ConfigDict) -> int:
        """Return the number of training examples of a config's dataset.

        Args:
            config: The config.

        Returns:
            Number of examples.
        """
        return len(open_shapes(config))
