"""Variables in which no value is a default: scales are not one, means not zero."""

import jax
import jax.numpy as jnp
import numpy as np


def random_variables(module, *inputs, seed=0, dtype=np.float64):
    """Random parameters and statistics of the module for inputs of those shapes.

    Kernels keep the variance of their input; scales and variances are positive and away from zero.
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
    """Random single-precision variables of a deep network, as training would leave them.

    Running statistics are those of the images, and scales below one, so that signals neither die
    out nor grow from block to block, nor saturate the weights of fusions: with `random_variables`
    fifty layers with IAFF multiply rounding by a million, which hides every mistake.
    """
    variables = random_variables(module, images, seed=seed, dtype=np.float32)
    rng = np.random.default_rng(seed)

    def tame(path, leaf):
        scale = path[-1].key == "scale"
        return rng.uniform(0.5, 1, leaf.shape).astype(np.float32) if scale else leaf

    params = jax.tree_util.tree_map_with_path(tame, variables["params"])
    zeros = jax.tree.map(np.zeros_like, variables["batch_stats"])
    _, moved = module.apply(
        {"params": params, "batch_stats": zeros}, images, train=True, mutable=["batch_stats"]
    )

    def settle(path, leaf):
        batch = 10 * leaf  # a step from zero, with the norms' decay of 0.9
        return batch + np.float32(0.1) if path[-1].key == "var" else batch

    stats = jax.tree_util.tree_map_with_path(settle, moved["batch_stats"])
    return {"params": params, "batch_stats": stats}
