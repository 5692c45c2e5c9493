"""Run a benchmark as a user does, with toy sizes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(module, *flags, output):
    """Run `python -m module --quick` without the tests' eight CPU devices, and compile fast."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    command = [sys.executable, "-m", module, "--quick", "--threads=2", "--output", str(output)]
    subprocess.run([*command, *flags], cwd=ROOT, env=environment, check=True, capture_output=True)
