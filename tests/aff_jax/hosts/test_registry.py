"""Hosts by name: what a reference changes, and what is refused."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import BatchNorm, create_model, list_fusions, list_models
from aff_jax.hosts.pyramid import PyramidHost


@pytest.mark.parametrize("name", list_models())
def test_every_name_makes_a_model(name):
    model = create_model(name, "add", num_classes=7)  # addition is traced fastest
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    pixels = (8, 8) if isinstance(model, PyramidHost) else ()
    assert logits.shape == (2, *pixels, 7)


def shallow(name, fusion="add"):
    """The network of that name with one block a stage."""
    model = create_model(name, fusion, num_classes=3)
    blocks = model.blocks_per_stage
    return model.clone(blocks_per_stage=1 if isinstance(blocks, int) else (1,) * len(blocks))


def distinct_when_shallow():
    """Registered names but those that differ from an earlier one in depth alone."""
    models = {name: shallow(name) for name in list_models()}
    earlier = list(models.values()).index
    return [name for index, (name, model) in enumerate(models.items()) if earlier(model) == index]


def gradients_of(model, variables, x):
    """Gradients of a sum of sines of the logits, in training mode, and the new statistics."""

    def loss(params):
        logits, new = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits)), new

    return jax.grad(loss, has_aux=True)(variables["params"])


@pytest.mark.parametrize("fusion", list_fusions())
@pytest.mark.parametrize("name", distinct_when_shallow())
def test_every_host_takes_every_fusion(name, fusion):
    """Traced, not computed: initialisation, a gradient and new statistics, all of one tree."""
    model = shallow(name, fusion)
    x = jnp.ones((2, 9, 8, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    gradients, new = jax.eval_shape(functools.partial(gradients_of, model), variables, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, variables["params"])
    chex.assert_trees_all_equal_shapes_and_dtypes(new["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("name", distinct_when_shallow())
def test_every_host_computes_in_its_dtype_and_gives_float32_logits(name):
    model = shallow(name, "aff").clone(dtype=jnp.bfloat16)
    logits, variables = jax.eval_shape(
        lambda key: model.init_with_output(
            key, jnp.zeros((2, 9, 8, 3)), True, capture_intermediates=True
        ),
        jax.random.key(0),
    )
    inside = variables.pop("intermediates")
    outputs = (logits, inside.pop("head"), inside.pop("__call__"))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(inside)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("reference", "fusion", "fields"),
    [
        ("paper", "aff", {}),
        ("paper", "iaff", {}),
        ("pytorch", "aff", {"gain": 2.0}),
        ("pytorch", "iaff", {"gain": 1.0, "share_global": True}),
        ("pytorch", "add", {}),
        ("mxnet", "aff", {"gain": 2.0}),
        ("mxnet", "iaff", {"gain": 1.0}),
    ],
)
def test_a_reference_sets_the_fields_in_which_it_departs(reference, fusion, fields):
    assert dict(create_model("cifar_resnet8", fusion, reference).fusion_fields) == fields


def test_fusion_fields_have_the_last_word():
    model = create_model("cifar_resnet8", "aff", "mxnet", fusion_fields={"gain": 3.0})
    assert dict(model.fusion_fields) == {"gain": 3.0}


@pytest.mark.parametrize(("reference", "factor"), [("paper", 1), ("mxnet", 1), ("pytorch", 4 / 3)])
def test_a_reference_sets_how_the_running_variance_is_kept(reference, factor):
    norm = functools.partial(BatchNorm, momentum=0.0)
    module = create_model("cifar_resnet8", reference=reference, norm=norm).norm()
    x = np.float32(np.random.default_rng(0).standard_normal((4, 3)))
    variables = module.init(jax.random.key(0), x)
    _, new = module.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(new["batch_stats"]["var"], x.var(0) * factor, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar_resnet9"}, "unknown model 'cifar_resnet9'. Did you mean 'cifar_resnet"),
        ({"fusion": "aaf"}, "unknown fusion 'aaf'. Did you mean 'aff'"),
        ({"reference": "torch"}, "unknown reference 'torch'. Did you mean 'pytorch'"),
        ({"widht": 4}, "unknown field of model 'cifar_resnet8': 'widht'. Did you mean 'width'"),
        ({"fusion_fields": {"gian": 1}}, "unknown field of fusion 'aff': 'gian'"),
    ],
)
def test_refuses_what_is_unknown_and_offers_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model(**{"name": "cifar_resnet8", **arguments})
