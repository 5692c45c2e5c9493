"""A reader that closes the output of a command."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("flags", [["models"], ["compare", "--help"]])
def test_a_closed_output_is_no_error(flags):
    """As with `aff-jax models | head`, whose reader may end first."""
    code = "import sys; from aff_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code, *flags]
    process = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")
