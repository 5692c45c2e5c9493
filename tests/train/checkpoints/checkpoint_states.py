"""States and feed states to save, different for each step, and a bitwise comparison."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from train.checkpoints.manager import Checkpoints


class State(struct.PyTreeNode):
    """Training state with a leaf of each dtype that one may have."""

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any


def make_state(seed: int, width: int = 300) -> State:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {
        "stem": {"kernel": draw(3, 3, width), "bias": draw(width)},
        "half": {"kernel": draw(2, 2).astype(jnp.bfloat16), "scale": draw(2).astype(jnp.float16)},
    }
    return State(
        step=jnp.asarray(seed, jnp.int32),
        params=params,
        batch_stats={"stem": {"mean": draw(width).at[0].set(jnp.nan), "var": -jnp.zeros(width)}},
        opt_state=optax.chain(optax.trace(0.9), optax.scale_by_adam()).init(params),
    )


def bits(tree: Any) -> list[tuple[Any, ...]]:
    """Return the bytes of each leaf: NaN equals NaN, and -0.0 differs from 0.0."""
    return [
        (jax.tree_util.keystr(path), str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def feed(step: int) -> dict[str, Any]:
    return {"next_index": step * 128, "epoch": {"order": [step, 2, 3], "name": "train"}}


def save(directory: Path, *steps: int, accuracies: dict[int, float] | None = None) -> None:
    with Checkpoints(directory, keep_last=9) as checkpoints:
        for step in steps:
            metrics = {"eval_accuracy": accuracies[step]} if step in (accuracies or {}) else None
            checkpoints.save(step, make_state(step), feed(step), metrics)


def assert_restores(directory: Path, step: int) -> list[str]:
    """Assert that `step` is restored bit-exact, and return the warnings."""
    warnings: list[str] = []
    with Checkpoints(directory, warn=warnings.append) as checkpoints:
        restored = checkpoints.restore(make_state(0))
    assert restored is not None
    assert restored.step == step
    assert restored.feed_state == feed(step)
    assert jax.tree.structure(restored.state) == jax.tree.structure(make_state(0))
    assert bits(restored.state) == bits(make_state(step))
    return warnings
