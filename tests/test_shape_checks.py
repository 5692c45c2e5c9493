"""The annotations of types and shapes are true: tests pass while they are checked at run time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Fast tests of several rooms. `make test-optimized` runs more of them with the checks.
FILES = ("fast/test_rule.py", "nn/test_pooling.py", "test_inspection.py")


def run(*arguments):
    """Run Python in a new process, because the checks are installed when modules are imported."""
    environment = {**os.environ, "CHECK_SHAPES": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_annotations_are_true():
    options = ("-q", "-p", "no:xdist", "-m", "not slow")
    result = run("-m", "pytest", *options, *(f"tests/aff_jax/{name}" for name in FILES))
    assert result.returncode == 0, result.stdout[-3000:]


def test_a_wrong_shape_is_an_error():
    call = (
        "import tests.conftest, aff_jax.nn.pooling as pooling, numpy as np;"
        "pooling.max_pool(np.zeros((2, 2), np.float32))"
    )
    assert "TypeCheckError" in run("-c", call).stderr
