"""Topologies for tests that need the compilers of the extra `plan`."""

import importlib.util
import os

import pytest

from train.plan.topologies import Topology, describe_topology


def require_topology(name: str) -> Topology:
    """Describe a topology, or skip the test where its compiler is missing.

    `make test-plan` sets REQUIRE_COMPILERS, so that nothing is skipped there.
    """
    module = "libtpu" if name.startswith(("v", "tpu")) else "jax_cuda12_plugin"
    if "REQUIRE_COMPILERS" not in os.environ and importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}: pip install -e '.[plan]'")
    return describe_topology(name)
