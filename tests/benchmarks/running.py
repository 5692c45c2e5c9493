"""A benchmark as a user starts it, at toy sizes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(module, *flags, output):
    """Run `python -m module --quick` to its end; the tests' eight fake devices are not for it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", module, "--quick", "--threads=2", "--output", str(output)]
    subprocess.run([*command, *flags], cwd=ROOT, env=environment, check=True, capture_output=True)
