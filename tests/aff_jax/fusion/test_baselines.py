"""Addition is addition, and concatenation follows its formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_fusion
from tests.aff_jax import oracle
from tests.aff_jax.fusion.formula import SHAPE_IDS, SHAPES, compare


def test_add_has_no_variables_and_adds():
    x, y = np.float32(np.random.default_rng(0).standard_normal((2, 3, 4, 4, 5)))
    add = create_fusion("add")
    variables = add.init(jax.random.key(0), x, y)
    assert variables == {}
    np.testing.assert_array_equal(add.apply(variables, x, y, train=True), x + y)


def test_add_refuses_integers():
    with pytest.raises(TypeError, match="Add: expected floating-point x, got int32"):
        create_fusion("add").apply({}, jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3)))


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_concat_equals_the_formula(shape, train):
    compare(create_fusion("concat", param_dtype=jnp.float64), oracle.concat, shape, train)
