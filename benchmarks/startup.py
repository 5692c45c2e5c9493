"""Time imports, and the first training step with an empty and a filled compilation cache.

    python -m benchmarks.startup

Each run is a new process, and its time starts before the process does. The runs of all sides are
interleaved. The first round, which loads files into memory, is not counted. The benchmark times

- the import of `aff_jax`, of its dependencies `jax` and `flax.linen` alone, and of `torch`;
- a training step of `cifar_resnet8` with AFF on 64 images of 8 x 8 pixels;
- the first step of `python -m train --config=configs/digits.py`, including its data, until the loss
  is ready.

Steps have an empty compilation cache, and the cache that an earlier process has filled. The sides
of PyTorch are eager, and torch.compile with empty and filled caches. It takes three minutes on two
CPU cores.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.timing import interleave, make_parser

__all__ = [
    "import_turns",
    "main",
    "seconds_of",
    "step_of_aff_jax",
    "step_of_digits",
    "step_of_torch",
    "step_turns",
]

STARTED = "BENCHMARK_STARTED"
"""Environment variable with the time at which the process was started."""

IMPORTS = {
    "Python alone": "pass",
    "aff_jax": "import aff_jax",
    "jax and flax": "import jax, jax.numpy, flax.linen",
    "torch": "import torch",
}
STEPS = {
    "aff_jax": "step_of_aff_jax",
    "digits": "step_of_digits",
    "PyTorch": "step_of_torch",
    "torch.compile": "step_of_torch",
}
"""Functions of this module that take a training step, by side."""

BATCH, PIXELS = 64, 8


def step_of_digits(cache: str) -> None:
    """Take the first step of `python -m train` on the digits."""
    import jax

    from configs import digits
    from train.data.pipeline import make_train_feed
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.setup import make_run

    enable_compilation_cache(cache)
    config = digits.get_config()
    run = make_run(config)
    feed: Any = make_train_feed(config, run.train_source, run.parallel)
    jax.block_until_ready(run.train_step(run.state, next(feed)))


def step_of_aff_jax(cache: str) -> None:
    """Take a step of `cifar_resnet8` with AFF on random images, by a jitted function."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    import aff_jax
    from train.runtime.compilation_cache import enable_compilation_cache

    enable_compilation_cache(cache)
    model: Any = aff_jax.create_model("cifar_resnet8", "aff", num_classes=10)
    images = np.random.default_rng(0).standard_normal((BATCH, PIXELS, PIXELS, 3), np.float32)
    labels = jnp.zeros(BATCH, jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    optimizer = optax.sgd(1e-3, momentum=0.9, nesterov=True)

    @jax.jit
    def step(params: Any, stats: Any, opt_state: Any) -> Any:
        def loss_of(params: Any) -> Any:
            tree = {"params": params, "batch_stats": stats}
            logits, new = model.apply(tree, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), new["batch_stats"]

        (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), new, opt_state, loss

    params, stats = variables["params"], variables["batch_stats"]
    jax.block_until_ready(step(params, stats, jax.jit(optimizer.init)(params)))


def step_of_torch(cache: str) -> None:
    """Take the same step in PyTorch, compiled if there is a directory for the cache."""
    import torch

    from benchmarks.torch_networks import make_network

    network = make_network("cifar_resnet8", "aff")
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, nesterov=True)
    images, labels = torch.randn(BATCH, 3, PIXELS, PIXELS), torch.zeros(BATCH, dtype=torch.long)
    called: Callable[..., torch.Tensor] = torch.compile(network) if cache else network
    torch.nn.functional.cross_entropy(called(images), labels).backward()
    optimizer.step()


def seconds_of(code: str, cache: str = "") -> float:
    """Return the seconds from before a new process starts until it has run `code`.

    The process reads the clock at the end, so its exit does not count.

    Args:
        code: Python code.
        cache: Directory of torch.compile's cache, or "" for the default.

    Returns:
        Seconds.

    Raises:
        RuntimeError: If the process fails.
    """
    report = f"import os, time; print('took', time.time() - float(os.environ['{STARTED}']))"
    environment = {**os.environ, STARTED: repr(time.time())}
    if cache:
        environment["TORCHINDUCTOR_CACHE_DIR"] = cache
    process = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"], env=environment, capture_output=True, text=True
    )
    if process.returncode:
        raise RuntimeError(f"the process of a side failed: {code}\n{process.stderr}")
    return float(process.stdout.split()[-1])


def import_turns() -> dict[str, Callable[[], float]]:
    """Return, for each import, a function that times a new process with this import."""
    return {name: partial(seconds_of, code) for name, code in IMPORTS.items()}


def step_turns(directory: Path, sides: Iterable[str]) -> dict[str, Callable[[], float]]:
    """Return functions that time a new process with a training step.

    A side that compiles runs twice in each round. "cache empty" clears the directory of compiled
    programs and fills it again. "cache filled" finds the programs of the last such run.

    Args:
        directory: Directory for the caches.
        sides: Names in `STEPS`.

    Returns:
        For each side, a function that starts one process and returns its seconds.
    """

    def run(step: str, cache: Path | None, clear: bool = False) -> float:
        if cache is not None and clear:
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir()
        path = "" if cache is None else str(cache)
        return seconds_of(f"from benchmarks.startup import {step}; {step}({path!r})", path)

    turns: dict[str, Callable[[], float]] = {}
    for side in sides:
        if side == "PyTorch":
            turns[side] = partial(run, STEPS[side], None)
        else:
            turns[f"{side}, cache empty"] = partial(run, STEPS[side], directory / side, clear=True)
            turns[f"{side}, cache filled"] = partial(run, STEPS[side], directory / side)
    return turns


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print its tables and write them."""
    parser = make_parser(__doc__, rounds=3)
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    quick = arguments.quick
    rounds, import_rounds = (1, 1) if quick else (arguments.rounds, 2 * arguments.rounds)
    uncounted = 0 if quick else 1
    console = Console(highlight=False, soft_wrap=True)
    imports = interleave(import_turns(), import_rounds, uncounted)
    console.print("imports done", style="dim")
    with tempfile.TemporaryDirectory() as directory:
        sides = ("aff_jax", "digits", "PyTorch")
        steps = interleave(step_turns(Path(directory), sides), rounds, uncounted)
        if not quick:  # One run of torch.compile is enough: it is slow and far from the others.
            compiled = step_turns(Path(directory), ["torch.compile"])
            steps |= interleave(compiled, rounds=1, uncounted_rounds=0)
    console.print("first steps done", style="dim")

    # Imported late, so that this process has no framework loaded while it times others.
    from benchmarks.plots import draw_seconds
    from benchmarks.results import describe_machine, write_results

    tables: dict[str, list[dict[str, Any]]] = {
        "Import": [
            {"import": name, "s": taken, "s above Python alone": taken - imports["Python alone"]}
            for name, taken in imports.items()
        ],
        "First training step": [{"side": name, "s": taken} for name, taken in steps.items()],
        "Second start over first": [
            {"side": side, "ratio": steps[f"{side}, cache filled"] / taken}
            for label, taken in steps.items()
            if (side := label.removesuffix(", cache empty")) != label
        ],
    }
    notes = [
        f"Medians of {rounds} new processes, {import_rounds} for imports and one for "
        f"torch.compile. `aff_jax`, `PyTorch` and `torch.compile` take a step on random images; "
        f"`digits` is the first step of `python -m train` with its data."
    ]
    machine = describe_machine(arguments.threads)
    console.print(
        write_results(
            arguments.output, "startup", "Time until the first step", tables, notes, machine
        )
    )
    panels = {"Import": imports, "First training step": steps}
    draw_seconds(panels, Path(arguments.output) / "startup.png")


if __name__ == "__main__":
    main()
