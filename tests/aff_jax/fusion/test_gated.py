"""Refinement, modulation and soft selection against NumPy in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_fusion
from aff_jax.fusion.gated import GAU, SE, SK, Highway
from tests.aff_jax import oracle
from tests.aff_jax.fusion.formula import SHAPE_IDS, SHAPES, compare, pair
from tests.aff_jax.random_variables import random_variables

FORMULAS = {"se": oracle.se, "gau": oracle.gau, "highway": oracle.highway, "sk": oracle.sk}
CLASSES = {"se": SE, "gau": GAU, "highway": Highway, "sk": SK}
TRAIN = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@TRAIN
def test_equals_the_formula(name, shape, train):
    module = create_fusion(name, reduction=3, param_dtype=jnp.float64)
    assert type(module) is CLASSES[name]
    compare(module, FORMULAS[name], shape, train)


@pytest.mark.parametrize("name", ["ms_se", "ms_gau"])
@TRAIN
def test_the_multi_scale_forms_read_local_context_too(name, train):
    module = create_fusion(name, param_dtype=jnp.float64)
    single = name.removeprefix("ms_")
    assert type(module) is CLASSES[single]
    compare(module, FORMULAS[single], (3, 4, 2, 6), train, names=("local", "global"))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(
    ("scales", "names"),
    [
        (("global", "global"), ("global", "global2")),
        (("local", "local"), ("local", "local2")),
        (("local", "global"), ("local", "global")),
    ],
)
def test_scales_are_the_branches_that_are_summed(name, scales, names):
    module = create_fusion(name, scales=scales, param_dtype=jnp.float64)
    compare(module, FORMULAS[name], (3, 4, 2, 6), False, names=names)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_and_logit_scale(name):
    fields = {"activation": jax.nn.silu, "logit_scale": 2.0, "param_dtype": jnp.float64}
    options = {"act": oracle.silu, "logit_scale": 2}
    compare(create_fusion(name, **fields), FORMULAS[name], (3, 4, 6), False, **options)


@pytest.mark.parametrize("name", FORMULAS)
def test_sows_its_weights_one_a_channel(name):
    x, y = map(np.float32, pair((3, 2, 4, 6)))
    module = create_fusion(name)
    variables = random_variables(module, x, y, dtype=np.float32)
    _, sown = module.apply(variables, x, y, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["fusion_weights"]
    chex.assert_shape(weights, (3, 1, 1, 6))
    assert 0 < weights.min() < weights.max() < 1


def test_sk_expands_one_hidden_vector_twice():
    params = random_variables(SK(reduction=4), *pair((3, 2, 8)))["params"]
    assert params["global"]["reduce"]["kernel"].shape == (8, 2)
    assert params["global"]["expand"]["kernel"].shape == (2, 16)


@TRAIN
def test_sk_as_in_sknet_and_in_open_acm(train):
    sknet = SK(use_bias=False, normalize_logits=False, param_dtype=jnp.float64)
    with jax.enable_x64(True):
        params = random_variables(sknet, *pair((3, 2, 8)))["params"]["global"]
    assert params.keys() == {"reduce", "reduce_norm", "expand"}
    assert params["expand"].keys() == {"kernel"}
    compare(sknet, oracle.sk, (3, 4, 2, 6), train)
    compare(SK(gain=2.0, param_dtype=jnp.float64), oracle.sk, (3, 4, 2, 6), train, gain=2)


def test_sk_with_equal_inputs_is_the_identity():
    """The two weights sum to one."""
    x, _ = map(np.float32, pair((3, 2, 6)))
    variables = random_variables(SK(), x, x, dtype=np.float32)
    np.testing.assert_allclose(SK().apply(variables, x, x), x, rtol=1e-6)
