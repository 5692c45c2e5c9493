"""The flags that describe a network."""

import inspect

import pytest

import aff_jax
from aff_jax.cli.network_flags import _FIELDS_WITH_FLAGS, create, network_flags


def test_flags_describe_a_network():
    flags = ["--fusion=iaff", "--reference=mxnet", "--num-classes=7", "--field=width=2"]
    parsed = network_flags().parse_args([*flags, "--field=fusion_start=3"])
    expected = {"num_classes": 7, "width": 2, "fusion_start": 3}
    assert create(parsed, "cifar_resnet8") == aff_jax.create_model(
        "cifar_resnet8", "iaff", reference="mxnet", **expected
    )


def test_defaults_are_those_of_the_paper():
    parsed = network_flags().parse_args([])
    assert create(parsed, "resnet18") == aff_jax.create_model("resnet18", "aff", reference="paper")


def test_values_of_fields_are_python_literals():
    parsed = network_flags().parse_args(["--field=blocks_per_stage=(1, 2)"])
    assert create(parsed, "resnet18").blocks_per_stage == (1, 2)
    parsed.field = ["width"]
    with pytest.raises(ValueError, match="expected --field NAME=VALUE, got 'width'"):
        create(parsed, "resnet18")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("num_classes=10", "--field=num_classes: expected --num-classes=10, its own flag"),
        ("fusion=iaff", "--field=fusion: expected --fusion=iaff, its own flag"),
        ("reference=mxnet", "--field=reference: expected --reference=mxnet, its own flag"),
        ("name=resnet50", "--field=name: the name of the network is not one of its fields"),
    ],
)
def test_a_field_with_its_own_flag_is_refused(field, message):
    parsed = network_flags().parse_args([f"--field={field}"])
    with pytest.raises(ValueError, match=message):
        create(parsed, "resnet18")


def test_every_argument_of_a_network_is_a_field_or_has_a_flag():
    arguments = inspect.signature(aff_jax.create_model).parameters
    assert arguments.keys() - {"name", "fields"} == set(_FIELDS_WITH_FLAGS)
    parsed = network_flags().parse_args([])
    assert all(hasattr(parsed, name) for name in _FIELDS_WITH_FLAGS)
