"""IAFF against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, IAFF
from tests.aff_jax import oracle
from tests.aff_jax.fusion.formula import SHAPE_IDS, SHAPES, compare, pair
from tests.aff_jax.random_variables import random_variables


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_iaff_equals_the_formula(shape, train):
    compare(IAFF(reduction=3, param_dtype=jnp.float64), oracle.iaff, shape, train)


def test_gain_multiplies_every_pass():
    compare(IAFF(gain=2.0, param_dtype=jnp.float64), oracle.iaff, (3, 2, 6), False, gain=2)


@pytest.mark.parametrize("iterations", [1, 3])
def test_iterations_repeat_the_pattern(iterations):
    names = [("local", "global"), ("local2", "global2"), ("local3", "global3")][:iterations]
    module = IAFF(iterations=iterations, param_dtype=jnp.float64)
    compare(module, oracle.iaff, (3, 2, 6), True, names_of_iterations=names)


def test_one_iteration_is_aff():
    x, y = map(np.float32, pair((3, 2, 6)))
    variables = random_variables(AFF(), x, y, dtype=np.float32)
    np.testing.assert_array_equal(
        IAFF(iterations=1).apply(variables, x, y), AFF().apply(variables, x, y)
    )


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_share_global_uses_the_first_global_branch_in_every_pass(train):
    """Its running statistics are updated twice per step, as in the PyTorch port."""
    module = IAFF(share_global=True, param_dtype=jnp.float64)
    names = [("local", "global"), ("local2", "global")]
    compare(module, oracle.iaff, (3, 2, 6), train, names_of_iterations=names)
    params = random_variables(IAFF(share_global=True), *pair((3, 2, 6)))["params"]
    assert sorted(params) == ["global", "local", "local2"]


def test_scales_apply_to_every_pass():
    module = IAFF(scales=("global", "global"), param_dtype=jnp.float64)
    names = [("global", "global2"), ("global3", "global4")]
    compare(module, oracle.iaff, (3, 2, 6), False, names_of_iterations=names)


def test_sows_the_weights_of_every_pass():
    x, y = map(np.float32, pair((3, 2, 6)))
    variables = random_variables(IAFF(), x, y, dtype=np.float32)
    result, sown = IAFF().apply(variables, x, y, mutable=["intermediates"])
    first, second = sown["intermediates"]["fusion_weights"]
    assert first.shape == second.shape == x.shape
    np.testing.assert_allclose(result, x * second + y * (1 - second), rtol=1e-6)


def test_refuses_no_iterations():
    x = jnp.ones((2, 4))
    with pytest.raises(ValueError, match="at least one iteration, got 0"):
        IAFF(iterations=0).init(jax.random.key(0), x, x)
