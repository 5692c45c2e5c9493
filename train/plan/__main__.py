"""Plan a run without its hardware: its memory, its cost and its duration.

For example::

    python -m train.plan --config=configs/digits.py --topology=v5e:2x2

It compiles the training step with the compiler of the TPU or GPU, which needs no device, no network
and no prepared dataset. The first call takes from seconds to minutes; its result is kept.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from train.command_errors import errors_in_one_line
from train.command_flags import define_config, run_command

__all__ = ["define_flags", "main"]

_ABOUT_DRIVERS = (b"Could not find cuda drivers", b"before absl::InitializeLog()")


def main() -> None:
    """Make the plan, print it, and write it.

    Raises:
        SystemExit: If there is an error that is expected, or the run does not fit.
    """
    options = flags.FLAGS
    with errors_in_one_line(traceback=options.traceback):
        _plan(options.config, options.topology)


def _load_jax() -> None:
    """Load JAX with its plugins for the CPU, since there is no other device."""
    with _without_messages_about_drivers():
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.devices()


@contextlib.contextmanager
def _without_messages_about_drivers() -> Iterator[None]:
    """Hide what JAX's CUDA plugin writes to stderr, several times, where there is no GPU.

    The plugin writes from C++ and has no setting for it. Other lines are passed on.
    """
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            lines.seek(0)
            for line in lines:
                if not any(text in line for text in _ABOUT_DRIVERS):
                    sys.stderr.write(line.decode(errors="replace"))


def _plan(config: ConfigDict, topology: str) -> None:
    from aff_jax.files.user_cache import user_cache
    from train.plan.dataset_shapes import open_shapes
    from train.plan.plan_maker import PlanCache, PlanMaker, versions
    from train.plan.report import does_not_fit, print_plan, print_search, write_json
    from train.plan.search import search

    options = flags.FLAGS
    console = Console(highlight=False)
    directory = user_cache("plans") if options.cache is None else options.cache
    cache = PlanCache(Path(os.path.expanduser(directory)) if str(directory) else None)
    maker = PlanMaker(topology, cache, console)
    try:
        plan = maker.plan(config)
    except ModuleNotFoundError as error:  # a compiler is not installed
        raise ValueError(str(error)) from error
    print_plan(plan, console)
    found = None
    if options.search:
        found = search(config, maker.plan, plan.devices, len(open_shapes(config)))
        print_search(found, console)
    if options.json:
        write_json(plan, Path(os.path.expanduser(options.json)), found, versions())
    if not plan.fits and found is None:
        raise ValueError(does_not_fit(plan, config))
    if found is not None and found.largest is None and not found.remedies:
        raise ValueError(
            f"expected a batch that fits into {plan.topology}, found none. Use more chips, smaller "
            f"images or a smaller network."
        )


def define_flags() -> None:
    """Define the flags of this command."""
    define_config()
    flags.DEFINE_string(
        "topology",
        None,
        "TPU slice such as v5e:4x4, or GPUs of a machine such as h100 or h100:8.",
        required=True,
    )
    flags.DEFINE_bool("search", False, "Find the largest batch that fits; compiles several times.")
    flags.DEFINE_string("json", None, "Write the plan to this file.")
    flags.DEFINE_string(
        "cache",
        None,
        "Directory of earlier plans, '' for none; by default ~/.cache/aff_jax/plans.",
    )
    flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")


if __name__ == "__main__":
    # Set before JAX loads the compilers, which otherwise report that they found no device.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    define_flags()
    _load_jax()  # first, since the file of the config may import JAX
    run_command(main)
