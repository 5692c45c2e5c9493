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
