"""Compare a fusion with its formula in NumPy, both in float64."""

import chex
import jax
import numpy as np

from tests.aff_jax.random_variables import random_variables

SHAPES = [(5, 6), (4, 3, 6), (3, 4, 2, 6), (2, 3, 2, 4, 6)]
SHAPE_IDS = ["no spatial axis", "1-d", "2-d", "3-d"]
# Both sides are float64 and sum at most 48 numbers of order one.
EXACT = 1e-12


def pair(shape):
    rng = np.random.default_rng(1)
    return rng.standard_normal(shape), rng.standard_normal(shape)


def compare(module, formula, shape, train, **options):
    """Compare a module with its formula in float64: output and running statistics."""
    x, y = pair(shape)
    with jax.enable_x64(True):
        variables = random_variables(module, x, y)
        stats = jax.tree.map(np.copy, variables["batch_stats"])
        expected = formula(x, y, variables["params"], stats, train, **options)
        result, new = module.apply(variables, x, y, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, rtol=EXACT, atol=EXACT)
    chex.assert_trees_all_close(dict(new["batch_stats"]), stats, rtol=EXACT)
