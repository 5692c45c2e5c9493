"""Hosts by name: fusions and dtypes of each, the fields that a reference sets, and errors."""

import copy
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import AFF, BatchNorm, create_model, list_fusions, list_models


def shallow(name, fusion="add"):
    """Return the network of that name with one block in each stage."""
    model = create_model(name, fusion, num_classes=3)
    return model.clone(blocks_per_stage=(1,) * len(model.blocks_per_stage))


def distinct_when_shallow():
    """Return the registered names, without those that only differ from an earlier one in depth."""
    models = {name: shallow(name) for name in list_models()}
    earlier = list(models.values()).index
    return [name for index, (name, model) in enumerate(models.items()) if earlier(model) == index]


def gradients_of(model, variables, x):
    """Return gradients of a sum of sines of the logits in training mode, and the new statistics."""

    def loss(params):
        logits, new = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits)), new

    return jax.grad(loss, has_aux=True)(variables["params"])


DISTINCT = distinct_when_shallow()
CLASSES = {type(shallow(name)): name for name in reversed(DISTINCT)}  # the first of each class


def slow_unless(fast):
    return () if fast else pytest.mark.slow


def marks_of(name, fusion):
    """Return the marks of a host and a fusion. The fast pairs have each class and each fusion."""
    if name in CLASSES.values() and (fusion == "aff" or name == DISTINCT[0]):
        return ()
    # Hosts of the same class differ in their width, their stem and their kernels.
    return (pytest.mark.slow, *([] if name in CLASSES.values() else [pytest.mark.weekly]))


@pytest.mark.parametrize(
    ("name", "fusion"),
    [
        pytest.param(name, fusion, marks=marks_of(name, fusion))
        for name in DISTINCT
        # The first host takes each fusion, and the others take three.
        for fusion in (list_fusions() if name == DISTINCT[0] else ("aff", "iaff", "concat"))
    ],
)
def test_gradients_and_statistics_have_the_shapes_and_dtypes_of_the_variables(name, fusion):
    """Initialization and gradients are traced."""
    model = shallow(name, fusion)
    x = jnp.ones((2, 9, 8, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    gradients, new = jax.eval_shape(functools.partial(gradients_of, model), variables, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, variables["params"])
    chex.assert_trees_all_equal_shapes_and_dtypes(new["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=slow_unless(name == DISTINCT[0])) for name in DISTINCT],
)
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
def test_a_reference_sets_the_fields_in_which_it_differs(reference, fusion, fields):
    assert dict(create_model("cifar_resnet8", fusion, reference).fusion_fields) == fields


def test_fusion_fields_take_precedence_over_a_reference():
    model = create_model("cifar_resnet8", "aff", "mxnet", fusion_fields={"gain": 3.0})
    assert dict(model.fusion_fields) == {"gain": 3.0}


@pytest.mark.parametrize(("reference", "factor"), [("paper", 1), ("mxnet", 1), ("pytorch", 4 / 3)])
def test_a_reference_sets_the_kind_of_the_running_variance(reference, factor):
    norm = functools.partial(BatchNorm, momentum=0.0)
    module = create_model("cifar_resnet8", reference=reference, norm=norm).norm()
    x = np.float32(np.random.default_rng(0).standard_normal((4, 3)))
    variables = module.init(jax.random.key(0), x)
    _, new = module.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(new["batch_stats"]["var"], x.var(0) * factor, rtol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"reference": "pytorch"},
        {"fusion": "iaff", "reference": "pytorch", "fusion_fields": {"gain": 3.0}},
        {"norm": functools.partial(BatchNorm, momentum=0.99)},
        {"fusion": functools.partial(AFF, gain=2.0)},
    ],
)
def test_models_of_equal_arguments_are_equal(fields):
    first, second = (
        create_model("cifar_resnet8", **{name: copy.copy(value) for name, value in fields.items()})
        for _ in range(2)
    )
    assert first == second
    assert hash(first) == hash(second)
    assert first != create_model("cifar_resnet8", "add")


@pytest.mark.parametrize(
    ("name", "classes"),
    [("resnet50", 1000), ("resnet50_v1d", 1000), ("cifar_resnet8", 10), ("fpn_resnet20", 10)],
)
def test_the_default_number_of_classes_is_that_of_the_host(name, classes):
    assert create_model(name).num_classes == classes


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
def test_refuses_unknown_names_and_suggests_similar_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model(**{"name": "cifar_resnet8", **arguments})
