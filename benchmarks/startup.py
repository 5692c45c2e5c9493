"""How long until it runs? Imports, and the first training step with and without a cache.

    python -m benchmarks.startup

Each turn is a fresh process, timed from before it is started; sides take turns, and the first turn,
which brings files into memory, is not counted:

- import: `aff_jax`; `jax` and `flax.linen` alone, which is what of it is not ours; and `torch`;
- a training step of `cifar_resnet8` with AFF on 64 images of 8 x 8 pixels, and
- the first step of `python -m train --config=configs/digits.py`, data and all, until its loss is
  there: with an empty directory for what is compiled, and with the one that another run left.

PyTorch's side of the step is eager, and torch.compile with its caches empty and filled. Takes three
minutes on two CPU cores.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.timing import measuring_arguments

STARTED = "BENCHMARK_STARTED"
"""Environment variable with the time at which the parent started the process."""

IMPORTS = {
    "Python alone": "pass",
    "aff_jax": "import aff_jax",
    "jax and flax": "import jax, jax.numpy, flax.linen",
    "torch": "import torch",
}
STEPS = {
    "aff_jax": "step_of_ours",
    "digits": "step_of_digits",
    "PyTorch": "step_of_torch",
    "torch.compile": "step_of_torch",
}
BATCH, PIXELS = 64, 8


def step_of_digits(cache: str) -> None:
    """One step of the digits run, as `python -m train` takes it."""
    import jax

    from configs import digits
    from train.data.pipeline import make_train_feed
    from train.runtime.compilation_cache import enable_compilation_cache
    from train.setup import prepare

    enable_compilation_cache(cache)
    config = digits.get_config()
    run = prepare(config)
    feed: Any = make_train_feed(config, run.train_source, run.parallel)
    jax.block_until_ready(run.train_step(run.state, next(feed)))


def step_of_ours(cache: str) -> None:
    """One step of the same network on random images, by a plain jitted function."""
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
    """The same in PyTorch; compiled where there is a directory to keep what is compiled."""
    import torch

    from benchmarks.torch_networks import make_network

    network = make_network("cifar_resnet8", "aff")
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, nesterov=True)
    images, labels = torch.randn(BATCH, 3, PIXELS, PIXELS), torch.zeros(BATCH, dtype=torch.long)
    called: Callable[..., torch.Tensor] = torch.compile(network) if cache else network
    torch.nn.functional.cross_entropy(called(images), labels).backward()
    optimizer.step()


def seconds_of(code: str, cache: str = "") -> float:
    """From the start of a process until it has run `code`, by its own clock."""
    tell = f"import os, time; print('took', time.time() - float(os.environ['{STARTED}']))"
    environment = {**os.environ, STARTED: repr(time.time())}
    if cache:
        environment["TORCHINDUCTOR_CACHE_DIR"] = cache
    process = subprocess.run(
        [sys.executable, "-c", f"{code}; {tell}"], env=environment, capture_output=True, text=True
    )
    if process.returncode:
        raise RuntimeError(f"a side failed: {code}\n{process.stderr}")
    return float(process.stdout.split()[-1])


@dataclass(frozen=True)
class Start:
    """A fresh process: `seconds()` starts it and waits for it.

    `turns` it has, if fewer than there are rounds; `first_uncounted`, whether it has one before.
    """

    seconds: Callable[[], float]
    turns: int | None = None
    first_uncounted: bool = True


def import_sides() -> dict[str, Start]:
    """Processes that only import; and one that does nothing, for what Python itself takes."""
    return {name: Start(partial(seconds_of, code)) for name, code in IMPORTS.items()}


def step_sides(folder: Path, with_compiled: bool) -> dict[str, Start]:
    """Processes that take a step: those that compile, with an empty cache and with a filled one."""

    def empty(code: str) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            return seconds_of(code.format(cache=cache), cache)

    def filled(code: str, name: str) -> float:
        cache = str(folder / name)
        return seconds_of(code.format(cache=cache), cache)

    sides = {}
    for name, side in STEPS.items():
        code = f"from benchmarks.startup import {side} as side; side({{cache!r}})"
        if name == "PyTorch":
            sides[name] = Start(partial(seconds_of, code.format(cache="")))
        elif with_compiled or name != "torch.compile":
            # It is slow, and far from the others: one turn says enough.
            turns = 1 if name == "torch.compile" else None
            # The turn that is not counted fills the directory.
            sides[f"{name}, cache empty"] = Start(partial(empty, code), turns, False)
            sides[f"{name}, cache filled"] = Start(partial(filled, code, name), turns)
    return sides


def alternate(sides: dict[str, Start], rounds: int, warm: bool = True) -> dict[str, float]:
    """Median seconds of each side; sides take turns, the first uncounted where `warm`."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        if warm and side.first_uncounted:
            side.seconds()
    for number in range(rounds):
        for name, side in sides.items():
            if side.turns is None or number < side.turns:
                found[name].append(side.seconds())
    return {name: statistics.median(taken) for name, taken in found.items()}


def main(argv: list[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = measuring_arguments((__doc__ or "").splitlines()[0], rounds=3)
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    rounds = 1 if arguments.quick else arguments.rounds
    import_rounds = 1 if arguments.quick else 2 * rounds
    console = Console(highlight=False, soft_wrap=True)
    imports = alternate(import_sides(), import_rounds, warm=not arguments.quick)
    console.print("imports done", style="dim")
    with tempfile.TemporaryDirectory() as folder:
        sides = step_sides(Path(folder), with_compiled=not arguments.quick)
        steps = alternate(sides, rounds, warm=not arguments.quick)
    console.print("first steps done", style="dim")

    # Only now: this process was to hold no frameworks while others start.
    from benchmarks.plots import draw_seconds
    from benchmarks.results import describe_machine, write_results

    tables: dict[str, list[dict[str, Any]]] = {
        "Import": [
            {"import": name, "s": taken, "s above Python alone": taken - imports["Python alone"]}
            for name, taken in imports.items()
        ],
        "First training step": [{"side": name, "s": taken} for name, taken in steps.items()],
        "Second start over first": [
            {"side": name, "ratio": steps[f"{name}, cache filled"] / taken}
            for label, taken in steps.items()
            if (name := label.removesuffix(", cache empty")) != label
        ],
    }
    notes = [
        f"Medians of {rounds} fresh processes, {import_rounds} of those that import, and one of "
        f"those with torch.compile. `aff_jax`, `PyTorch` and `torch.compile` take a step on random "
        f"images; `digits` is the first step of `python -m train` with its data."
    ]
    machine = describe_machine(arguments.threads)
    console.print(
        write_results(arguments.output, "startup", "From nothing", tables, notes, machine)
    )
    panels = {"Import": imports, "First training step": steps}
    draw_seconds(panels, Path(arguments.output) / "startup.png")


if __name__ == "__main__":
    main()
