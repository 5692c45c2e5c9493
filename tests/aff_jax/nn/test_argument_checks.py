"""Wrong and swapped arguments of functions that take a module and its variables."""

import jax.numpy as jnp
import pytest

import aff_jax
from aff_jax.convert import from_mxnet, from_torch, to_torch
from aff_jax.inference import freeze

AFF, VARIABLES, X = aff_jax.AFF(), {"params": {}}, jnp.zeros((1, 8))
HOST = aff_jax.create_model("cifar_resnet8")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aff_jax.save("a.safetensors", AFF, VARIABLES), r"save\(path.*swapped"),
        (lambda: aff_jax.save(VARIABLES, AFF, "a.safetensors"), r"expected a path, got a dict"),
        (lambda: aff_jax.save("a.safetensors", VARIABLES, aff_jax.AFF), r"AFF\(\), instead"),
        (lambda: freeze(VARIABLES, AFF, X, X), r"freeze\(model.*swapped"),
        (lambda: to_torch(AFF, VARIABLES, X, X), r"to_torch\(variables.*swapped"),
        (lambda: from_torch(AFF, VARIABLES, X, X), r"from_torch\(source.*swapped"),
        (lambda: from_torch(AFF, "a.pth", X, X), r"from_torch\(source.*swapped"),
        (lambda: from_mxnet(AFF, VARIABLES, X, X), r"from_mxnet\(source.*swapped"),
        (lambda: aff_jax.fusion_weights(VARIABLES, AFF, X, X), "swapped"),
        (lambda: aff_jax.fusion_weights(AFF, [X], X, X), "got a AFF as the module and a list"),
        (lambda: aff_jax.grad_cam(HOST, VARIABLES, X, 7), r"got 7 where.*train.*classes=7"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()
