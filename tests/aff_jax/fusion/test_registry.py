"""The contract of every registered fusion, and errors for unknown names and fields."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, IAFF, create_fusion, list_fusions
from aff_jax.fusion.registry import make_fusion
from tests.aff_jax.random_variables import random_variables


def pair(shape):
    rng = np.random.default_rng(1)
    return [np.float32(rng.standard_normal(shape)) for _ in range(2)]


ATTENTIONAL = [n for n in list_fusions() if hasattr(create_fusion(n), "scales")]
SCALES = [("global", "global"), ("local", "local"), ("local", "global")]


def check_gradients(fusion):
    """Check that the gradients of all parameters and both inputs are finite and not zero."""
    x, y = pair((4, 3, 2, 6))
    variables = random_variables(fusion, x, y, dtype=np.float32)

    def loss(params, x, y):
        out, _ = fusion.apply({**variables, "params": params}, x, y, True, mutable=True)
        return jnp.sum(jnp.sin(out))

    params = variables.get("params", {})
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, x, y)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        at = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), at
        # A batch norm removes a bias before it: its gradient is rounding only.
        before_norm = at.endswith(("['reduce']['bias']", "['expand']['bias']"))
        assert before_norm or np.abs(gradient).max() > 1e-6, at


@pytest.mark.parametrize("name", list_fusions())
class TestContract:
    """The behavior that networks expect of every fusion."""

    @pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6), (4, 3, 2, 6), (2, 2, 3, 2, 6)])
    @pytest.mark.parametrize("train", [False, True])
    def test_keeps_shape_and_dtype_and_the_tree_of_statistics(self, name, shape, train):
        x, y = pair(shape)
        fusion = create_fusion(name)
        variables = fusion.init(jax.random.key(0), x, y)
        result, new = fusion.apply(variables, x, y, train=train, mutable=["batch_stats"])
        chex.assert_shape(result, shape)
        chex.assert_type(result, jnp.float32)
        chex.assert_tree_all_finite(result)
        if "batch_stats" in variables:
            chex.assert_trees_all_equal_shapes_and_dtypes(
                new["batch_stats"], variables["batch_stats"]
            )

    def test_is_the_same_with_and_without_jit_and_under_pmap(self, name):
        x, y = pair((4, 3, 6))
        fusion = create_fusion(name)
        variables = random_variables(fusion, x, y, dtype=np.float32)

        def apply(variables, x, y):
            return fusion.apply(variables, x, y, train=True, mutable=["batch_stats"])

        plain, compiled = apply(variables, x, y), jax.jit(apply)(variables, x, y)
        other = apply(variables, y, x)
        mapped = jax.pmap(apply, in_axes=(None, 0, 0))(
            variables, np.stack([x, y]), np.stack([y, x])
        )
        # float32, with sums in another order.
        chex.assert_trees_all_close(compiled, plain, rtol=1e-4, atol=1e-5)
        for device, expected in enumerate((plain, other)):
            one = jax.tree.map(lambda leaf, device=device: leaf[device], mapped)
            chex.assert_trees_all_close(one, expected, rtol=1e-4, atol=1e-5)

    def test_every_parameter_and_both_inputs_have_a_gradient(self, name):
        check_gradients(create_fusion(name))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_computes_in_its_dtype_and_keeps_statistics_float32(self, name, dtype):
        fusion = create_fusion(name, dtype=dtype)
        x, y = pair((4, 3, 2, 6))
        result, variables = jax.eval_shape(
            lambda key: fusion.init_with_output(key, x, y, True), jax.random.key(0)
        )
        sown = variables.pop("intermediates", {})
        assert {leaf.dtype for leaf in jax.tree.leaves((result, sown))} == {jnp.dtype(dtype)}
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype(jnp.float32)}

    def test_refuses_shapes_that_differ(self, name):
        x = jnp.ones((2, 4, 8))
        with pytest.raises(ValueError, match="expected x and y of the same shape"):
            create_fusion(name).init(jax.random.key(0), x, x[:, :2])

    def test_a_host_can_make_it(self, name):
        fusion = make_fusion(name, {}, name="fuse", reduction=2, dtype=jnp.bfloat16)
        assert fusion.name == "fuse"


@pytest.mark.parametrize("name", ATTENTIONAL)
@pytest.mark.parametrize("scales", SCALES, ids="+".join)
def test_every_attentional_fusion_takes_scales(name, scales):
    fusion = create_fusion(name, scales=scales)
    branches = random_variables(fusion, *pair((4, 3, 6)))["params"]
    readings = len(branches) / len(scales)
    of_kind = [b.rstrip("0123456789") for b in branches]
    assert sorted(of_kind) == sorted(scales * int(readings))
    check_gradients(fusion)


def test_a_fusion_with_scales_is_attentional():
    assert {"aff", "gau", "highway", "iaff", "ms_gau", "ms_se", "se", "sk"} <= set(ATTENTIONAL)
    assert {"add", "concat"}.isdisjoint(ATTENTIONAL)


def test_create_fusion_sets_fields():
    assert create_fusion("aff", reduction=8, gain=2.0) == AFF(reduction=8, gain=2.0)
    assert create_fusion("iaff", iterations=3) == IAFF(iterations=3)


def test_refuses_an_unknown_name_and_offers_the_nearest():
    with pytest.raises(ValueError, match=r"unknown fusion 'iaf'. Did you mean 'iaff' or 'aff'"):
        create_fusion("iaf")


def test_refuses_an_unknown_field_and_offers_the_nearest():
    with pytest.raises(ValueError, match=r"unknown field of fusion 'aff': 'gian'. Did you mean 'g"):
        create_fusion("aff", gian=2.0)


def test_a_function_gets_the_fields_that_it_has_parameters_for():
    class Mine(nn.Module):
        reduction: int = 1

        @nn.compact
        def __call__(self, x, y, train=False):
            return x - y

    made = make_fusion(Mine, {}, name="fuse", reduction=3, dtype=jnp.bfloat16)
    assert (made.name, made.reduction) == ("fuse", 3)
    made = make_fusion(lambda **fields: AFF(**fields), {"gain": 2.0}, name="fuse", reduction=3)
    assert (made.name, made.reduction, made.gain) == ("fuse", 3, 2.0)
