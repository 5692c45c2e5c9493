"""Convert, compare, list, export and use attentional feature fusion networks."""

import argparse
import logging
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence

import aff_jax
from aff_jax.cli import compare, convert, export, models, predict, summary
from aff_jax.cli.closed_output import ClosableOutput
from aff_jax.cli.network_flags import network_flags

__all__ = ["main"]

_logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments of the command line. None reads `sys.argv`.

    Returns:
        The exit status: 0 for success, 1 if compared networks differ or some images could not be
        read, 2 for an error, 130 after Ctrl-C.
    """
    with ClosableOutput():
        arguments = _parser().parse_args(argv)
        arguments.command_line = shlex.join(["aff-jax", *(sys.argv[1:] if argv is None else argv)])
        return _run(arguments)
    return 0  # the output was closed, as by `| head`


def _run(arguments: argparse.Namespace) -> int:
    """Run the command of parsed arguments and return the exit status."""
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        raise  # not an error of the command
    except (ValueError, OSError, ImportError) as error:
        _logger.debug("the command failed", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:  # uncaught, it would exit with 1, which means that networks differ
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aff-jax", description=__doc__)
    parser.add_argument("--version", action="version", version=aff_jax.__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    network = network_flags()
    for command in (models, convert, compare, summary, export, predict):
        command.add_parser(commands, network)
    return parser
