"""Descriptions of models: what is stored, and what is refused by name."""

import functools
import json
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.description import describe_model, model_from_description


@pytest.mark.parametrize("reference", ["paper", "pytorch", "mxnet"])
@pytest.mark.parametrize("name", aff_jax.list_models())
def test_every_registered_name_can_be_described(name, reference):
    model = aff_jax.create_model(name, "iaff", reference)
    again = model_from_description(json.loads(json.dumps(describe_model(model))))
    assert type(again) is type(model)
    assert describe_model(again) == describe_model(model)
    assert again.fusion_fields == model.fusion_fields
    hash(again)


def test_numpy_numbers_in_fields_become_python_numbers():
    again = model_from_description(
        describe_model(aff_jax.AFF(gain=np.float32(2), reduction=np.int64(2)))
    )
    assert again == aff_jax.AFF(gain=2.0, reduction=2)


def test_a_backbone_stays_a_backbone():
    for name in ("cifar_resnet8", "inception8", "unet_resnet20", "resnet18"):
        model = aff_jax.create_model(name, features_only=True)
        assert model_from_description(describe_model(model)).features_only is True


def host(**fields):
    return aff_jax.create_model("cifar_resnet8", **fields)


class Mine(nn.Module):
    """A fusion with a class attribute that `np.dtype` would read."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, y, train=False):
        return x + y


class MyNorm(aff_jax.BatchNorm):
    pass


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: host(fusion=Mine), "CIFARResNet.fusion"),
        (lambda: host(fusion=functools.partial(aff_jax.AFF, gain=2.0)), "CIFARResNet.fusion"),
        (lambda: host(norm=MyNorm), "CIFARResNet.norm"),
        (lambda: aff_jax.AFF(activation=nn.PReLU), "AFF.activation"),
        (lambda: aff_jax.AFF(norm=functools.partial(nn.GroupNorm, dtype=Mine)), "AFF.norm: dtype"),
        (lambda: aff_jax.AFF(dtype="f4", param_dtype=np.dtype("O")), "AFF.param_dtype"),
        (lambda: host(fusion_fields={"norm": MyNorm}), "CIFARResNet.fusion_fields: norm"),
    ],
)
def test_a_field_that_has_no_name_is_refused_with_what_to_do(make, name):
    with pytest.raises(ValueError, match=f"{name} is .*cannot be stored") as error:
        describe_model(make())
    assert "FUSIONS['mine'] = Mine" in str(error.value)
    assert "aff_jax.load(path, model=model)" in str(error.value)


@pytest.mark.parametrize(
    "norm",
    [
        *(nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm, nn.LayerNorm, nn.RMSNorm),
        functools.partial(nn.GroupNorm, num_groups=2, epsilon=np.float32(0.5), dtype=jnp.bfloat16),
    ],
)
def test_norms_of_flax_are_stored(norm):
    described = describe_model(aff_jax.AFF(norm=norm))
    again = model_from_description(json.loads(json.dumps(described)))
    if isinstance(norm, functools.partial):
        assert again.norm.func is norm.func
        assert again.norm.keywords == norm.keywords
    else:
        assert again.norm is norm
    assert describe_model(again) == described


def test_arrays_in_fields_become_numbers():
    model = aff_jax.AFF(gain=jnp.float32(2), reduction=np.array(2))
    assert model_from_description(describe_model(model)) == aff_jax.AFF(gain=2.0, reduction=2)
