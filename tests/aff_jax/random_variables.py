"""Random variables for tests, so that scales differ from 1 and means from 0."""

import jax
import jax.numpy as jnp
import numpy as np


def random_variables(module, *inputs, seed=0, dtype=np.float64):
    """Draw random variables for a module and inputs.

    Kernels preserve the variance of their inputs. Scales and variances are at least 0.5.
    """
    abstract = jax.eval_shape(module.init, jax.random.key(0), *map(jnp.asarray, inputs))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        normal = rng.standard_normal(leaf.shape)
        name = path[-1].key
        if name == "kernel":
            return (normal / np.sqrt(np.prod(leaf.shape[:-1]))).astype(dtype)
        if name in ("scale", "var"):
            return (0.5 + np.abs(normal)).astype(dtype)
        return (0.3 * normal).astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract)


def settled_variables(module, images, seed=0):
    """Draw random float32 variables of a deep network that resemble those after training.

    Running statistics are those of `images`, and scales are between 0.5 and 1. Therefore signals
    neither vanish nor grow from block to block, and the weights M are not saturated. With
    `random_variables`, 50 layers with IAFF amplify rounding by a factor of a million, which hides
    every mistake.
    """
    variables = random_variables(module, images, seed=seed, dtype=np.float32)
    rng = np.random.default_rng(seed)

    def draw_scale(path, leaf):
        is_scale = path[-1].key == "scale"
        return rng.uniform(0.5, 1, leaf.shape).astype(np.float32) if is_scale else leaf

    params = jax.tree_util.tree_map_with_path(draw_scale, variables["params"])
    zeros = jax.tree.map(np.zeros_like, variables["batch_stats"])
    _, updated = module.apply(
        {"params": params, "batch_stats": zeros}, images, train=True, mutable=["batch_stats"]
    )

    def to_batch_statistics(path, leaf):
        batch = 10 * leaf  # the statistics were updated from 0 with a momentum of 0.9
        return batch + np.float32(0.1) if path[-1].key == "var" else batch

    stats = jax.tree_util.tree_map_with_path(to_batch_statistics, updated["batch_stats"])
    return {"params": params, "batch_stats": stats}
