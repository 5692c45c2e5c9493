"""Hosts by name: what a reference changes, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import BatchNorm, create_model, list_models


@pytest.mark.parametrize("name", list_models())
def test_every_name_makes_a_model(name):
    model = create_model(name, "add", num_classes=7)  # addition is traced fastest
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    assert logits.shape == ((2, 8, 8, 7) if "fpn" in name or "unet" in name else (2, 7))


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
