"""Rematerialization, which all fusions share."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_fusion, list_fusions
from tests.aff_jax.random_variables import random_variables

SHAPE = (4, 6, 6, 16)


def pull_back(fusion, variables, x, y):
    """Return the output, the new variables and the pullback of a fusion in training."""

    def apply(params, x, y):
        given = {**variables, "params": params}
        return fusion.apply(given, x, y, True, mutable=["batch_stats", "intermediates"])

    z, pull, new = jax.vjp(apply, variables.get("params", {}), x, y, has_aux=True)
    return z, new, pull


KEEPS_PRODUCTS = "dots_saveable"


@pytest.mark.parametrize(
    ("name", "remat"), [*((name, True) for name in list_fusions()), ("iaff", KEEPS_PRODUCTS)]
)
def test_remat_changes_no_result(name, remat):
    rng = np.random.default_rng(0)
    x, y, d = (rng.standard_normal(SHAPE) for _ in range(3))
    with jax.enable_x64(True):
        variables = random_variables(create_fusion(name), x, y)
        plain, recomputed = (
            pull_back(create_fusion(name, remat=remat), variables, x, y) for remat in (False, remat)
        )
        results = [(z, new, pull(jnp.asarray(d))) for z, new, pull in (plain, recomputed)]
    chex.assert_trees_all_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "products", "maps"), [("aff", 3.4, 5.9), ("iaff", 4.8, 11.8)])
def test_remat_keeps_x_and_y_only_and_a_policy_keeps_more(name, products, maps):
    """Sizes are in units of x; the small excess is parameters."""
    x = jnp.zeros((8, 16, 16, 64))
    variables = jax.eval_shape(create_fusion(name).init, jax.random.key(0), x, x)

    def kept(remat):
        def pull(variables, x, y):
            return pull_back(create_fusion(name, remat=remat), variables, x, y)[2]

        leaves = jax.tree.leaves(jax.eval_shape(pull, variables, x, x))
        return sum(leaf.size for leaf in leaves) / x.size

    assert 2 < kept(True) < 2.1
    assert 3 < kept(KEEPS_PRODUCTS) < products
    assert kept(False) < maps
    assert kept(False) > 2 * kept(True)


@pytest.mark.parametrize(
    ("remat", "error", "message"),
    [
        ("dots_savable", ValueError, r"unknown remat policy .* Known: dots_saveable, "),
        (1.5, TypeError, r"as remat, got 1.5 .* policy, such as \"dots_saveable\""),
    ],
)
def test_an_unknown_policy_is_refused(remat, error, message):
    x = jnp.zeros((2, 4, 4, 8))
    with pytest.raises(error, match=message):
        create_fusion("aff", remat=remat).init(jax.random.key(0), x, x)
