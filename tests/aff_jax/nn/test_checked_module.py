"""Modules made in the same way are equal; wrong, unnamed and unknown fields are errors."""

import copy
import dataclasses
import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax import AFF, IAFF, MSCAM
from aff_jax.fusion.gated import SE
from aff_jax.nn.checked_module import CheckedModule

if TYPE_CHECKING:
    from decimal import Decimal

NAMES = ["mscam", "align", "batch_norm", "cifar_resnet8", *aff_jax.list_fusions()]


def make(name, **fields):
    classes = {"mscam": aff_jax.MSCAM, "align": aff_jax.Align, "batch_norm": aff_jax.BatchNorm}
    if name in classes:
        return classes[name](**fields)
    create = aff_jax.create_model if name in aff_jax.list_models() else aff_jax.create_fusion
    return create(name, **fields)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_module_equals_its_deep_copy(name):
    module = make(name)
    assert isinstance(module, CheckedModule)
    assert copy.deepcopy(module) == module
    assert hash(copy.deepcopy(module)) == hash(module)


@pytest.mark.parametrize(
    "make",
    [
        lambda: aff_jax.AFF(norm=functools.partial(aff_jax.BatchNorm, momentum=0.8)),
        lambda: aff_jax.MSCAM(activation=functools.partial(nn.gelu, approximate=False)),
        lambda: aff_jax.AFF(scales=["local", "global"]),
        lambda: aff_jax.create_model("cifar_resnet8", blocks_per_stage=[1, 1, 1]),
        lambda: aff_jax.create_model("cifar_resnet8", fusion_fields={"scales": ["local"]}),
        lambda: aff_jax.AFF(reduction=np.float32(2), gain=jnp.ones(())),
    ],
)
def test_modules_made_alike_are_equal_and_hashable(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    jax.jit(lambda module: 0, static_argnums=0).lower(make())


def test_a_list_equals_a_tuple():
    assert aff_jax.AFF(scales=["local"]) == aff_jax.AFF(scales=("local",))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("aff", {"activation": "relu"}, r"AFF: .*function as activation, got 'relu'.*linen.relu"),
        ("sk", {"norm": "batch"}, r"SK: expected a function .*as norm, got 'batch'.*BatchNorm"),
        ("mscam", {"reduction": "4"}, r"MSCAM: expected a number as reduction, got '4'.*is 4"),
        ("aff", {"gain": True}, "number as gain, got True"),
        ("iaff", {"iterations": 2.5}, "integer as iterations"),
        ("aff", {"scales": "local"}, r"sequence of strings as scales, got 'local'.*\(\"local\",\)"),
        ("aff", {"scales": (1,)}, "sequence of strings"),
        ("align", {"dtype": "floaty"}, r"a dtype such as jnp.float32 or None as dtype"),
        ("add", {"remat": 2}, "True or False or a string"),
        ("batch_norm", {"momentum": "0.9"}, "BatchNorm: expected a number"),
        ("cifar_resnet8", {"width": 0.5}, r"CIFARResNet: expected an integer as width, got 0\.5"),
        ("cifar_resnet8", {"blocks_per_stage": 3}, r"sequence of integers.*default is \(1, 1, 1\)"),
        ("cifar_resnet8", {"fusion_fields": "gain"}, "a dict as fusion_fields"),
        ("cifar_resnet8", {"head_init": 1}, "a function or None as head_init"),
        ("cifar_resnet8", {"norm": None, "reference": "pytorch"}, "a function as norm, got None"),
        (
            "cifar_resnet8",
            {"norm": "batch", "reference": "mxnet"},
            "a function as norm, got 'batch'",
        ),
    ],
)
def test_a_value_of_a_wrong_type_is_an_error(name, fields, message):
    with pytest.raises(TypeError, match=message):
        make(name, **fields)


def test_the_advice_for_no_normalization_works():
    aff, x = aff_jax.AFF(norm=lambda **fields: lambda x, train: x), jnp.zeros((2, 3))
    assert list(jax.eval_shape(aff.init, jax.random.key(0), x, x)) == ["params"]


def test_unknown_annotations_accept_everything():
    class Mine(aff_jax.AFF):
        table: "Decimal" = 3

    assert Mine(table="x").table == "x"


@pytest.mark.parametrize("module", [MSCAM, AFF, IAFF, SE])
def test_a_field_without_its_name_is_refused_with_the_names(module):
    with pytest.raises(
        TypeError, match=rf"{module.__name__}\(.*=\.\.\.\), got 64\. Its fields are"
    ):
        module(64)


def test_a_subclass_may_have_positional_fields():
    class Mine(AFF):
        channels: int = 3

    assert Mine(5, gain=2.0).channels == 5


@pytest.mark.parametrize("module", [MSCAM, AFF, IAFF, SE])
def test_an_unknown_field_is_refused_with_the_known_ones(module):
    with pytest.raises(TypeError, match=rf"field of {module.__name__}: 'reductoin'. Did you mean"):
        module(reductoin=4)
    with pytest.raises(TypeError, match="The r of open-aff is `reduction` here"):
        module(r=4)
    with pytest.raises(TypeError, match="If the first is a number of channels"):
        module(64, r=4)


def test_a_subclass_may_have_parameters_that_are_not_fields():
    class Sized(AFF, kw_only=True):
        size: dataclasses.InitVar[int] = 3

        def __post_init__(self, size):
            self.gain = float(size)
            super().__post_init__()

    class OfChannels(AFF):
        def __init__(self, channels=16, **fields):
            super().__init__(**{"reduction": channels // 4, **fields})

    assert Sized(size=4).gain == 4
    assert OfChannels(channels=32, gain=2.0).reduction == 8
