"""Flags, and nothing else: `python -m train --config=configs/digits.py --workdir=runs/digits`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console
from rich.markup import escape

from aff_jax.tables import unknown_name

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Config file; its fields are set as --config.FIELD=VALUE."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; goes on from its last checkpoint.", required=True
)
TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")


def main(argv: Sequence[str]) -> None:
    """Train, and print what came out and where it is."""
    if len(argv) > 1:
        raise SystemExit(f"error: expected flags only, got {' '.join(argv[1:])!r}.")
    logging.set_verbosity(logging.WARNING)  # Orbax and TFDS tell a page at each checkpoint
    # After the flags, so that a mistake in them does not wait for JAX.
    from train.loop import train
    from train.tasks import describe
    from train.window import NonFiniteError

    console = Console()
    workdir = Path(WORKDIR.value)
    try:
        summary = train(CONFIG.value, workdir, console)
    except (ValueError, TypeError, OSError, NonFiniteError) as error:
        if TRACEBACK.value:
            raise
        raise SystemExit(f"error: {error}") from error
    speed = summary["examples_per_second"]
    measured = {
        name.removeprefix("eval_"): summary[name] for name in summary if name.startswith("eval_")
    }
    drawn = (workdir / "predictions.png").exists()
    console.print(
        f"\n[bold]{describe(measured, 'test ')}[/bold] "
        f"after {summary['step']} steps ({summary['epochs']:.1f} epochs)"
        f"\n{summary['parameters']:,} parameters, {summary['wall_seconds']:.1f} s"
        + (f", {speed:,.0f} images/s while training" if speed else "")
        + f"\n\nwritten to {escape(str(workdir))}:\n"
        "  summary.json     these numbers\n"
        "  curves.png       loss and accuracy over the steps\n"
        "  confusion.png    which class is taken for which\n"
        + ("  predictions.png  masks beside what is predicted\n" if drawn else "")
        + "  metrics.jsonl    every number of the run, a line an event\n"
        "  tensorboard/     the same, for `tensorboard --logdir`\n"
        "  checkpoints/     the newest weights and the best",
        highlight=False,
        soft_wrap=True,
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Flags from the command line; a config or a field that is not there ends it in one line."""
    try:
        rest: list[str] = flags.FLAGS(list(argv))
        if CONFIG.value is None:
            raise flags.Error("--config is missing, as in --config=configs/digits.py.")
        CONFIG.value.lock()
        return rest
    except (AttributeError, KeyError) as error:
        raise SystemExit(f"error: {_unknown_field(argv, error)}") from None
    except (flags.Error, OSError, TypeError, ValueError) as error:
        raise SystemExit(f"error: {str(error).strip()}") from None


def _unknown_field(argv: Sequence[str], error: Exception) -> str:
    """Which of the fields on the command line the config file does not have."""
    given = list(argv)
    files = [a.partition("=")[2] for a in given if a.startswith("--config=")]
    files += [given[i + 1] for i, a in enumerate(given[:-1]) if a == "--config"]
    config = flags.FLAGS["config"].parser.parse(files[-1])
    for argument in given:
        match = re.match(r"--(?:no)?config\.([\w.]+)", argument)
        node: Any = config
        path: list[str] = []
        for name in match[1].split(".") if match else ():
            known = list(node.keys()) if hasattr(node, "keys") else []
            if name not in known:
                of = f" of {'.'.join(path)}:" if path else ""
                return unknown_name(f"config field{of}", name, known)
            path.append(name)
            node = node[name]
    return str(error)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
