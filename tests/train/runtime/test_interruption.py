"""A Ctrl-C ends a command with one line, even where Python would ignore it."""

import subprocess
import sys

import pytest

COMMAND = """
import gc, signal, sys
from train.command_flags import run_command

# A shell starts programs in the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt(*_):
    signal.raise_signal(signal.SIGINT)

class Interrupting:
    __del__ = interrupt

def main():
    assert "jax" not in sys.modules  # the imports of a command do not delay its errors
    {body}
    print("lost")

run_command(main)
"""


@pytest.mark.parametrize(
    "body",
    [
        "interrupt()",
        "gc.callbacks.append(interrupt); gc.collect()",  # as that of JAX
        "Interrupting()",
    ],
)
def test_ctrl_c_ends_a_command_with_one_line(body):
    program = COMMAND.replace("{body}", body)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "\nInterrupted.\n")


@pytest.mark.parametrize("module", ["train.__main__", "train.compare", "train.evaluate"])
def test_ctrl_c_is_heard_before_jax_is_imported(module):
    program = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
