"""Flags that several commands share, and the number of classes of a checkpoint."""

import argparse
import inspect

import numpy as np
import pytest

import aff_jax
from aff_jax.cli.network_flags import (
    _FIELDS_WITH_FLAGS,
    check_target,
    checkpoint_num_classes,
    create,
    help_line,
    image_size,
    network_flags,
    parse_renames,
    positive,
    rename_flag,
)
from aff_jax.convert.rules import MXNET, PYTORCH


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


def test_renames_have_no_final_dots():
    parsed = rename_flag().parse_args(["--rename=encoder.=", "--rename=fc.=head."])
    assert parse_renames(parsed) == {"encoder": "", "fc": "head"}


@pytest.mark.parametrize("text", ["0", "-1", "a", "1.5"])
def test_numbers_are_positive(text):
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match=f"a number of at least 1, got {text!r}"):
        positive(text)


def test_a_target_is_new_in_a_directory_that_exists(tmp_path):
    target = tmp_path / "new.safetensors"
    check_target(target, overwrite=False)
    target.touch()
    check_target(target, overwrite=True)
    with pytest.raises(FileExistsError, match="already exists; pass --overwrite"):
        check_target(target, overwrite=False)
    with pytest.raises(FileNotFoundError, match=r"no directory .*no\. Create it first"):
        check_target(tmp_path / "no" / "new.safetensors", overwrite=False)


@pytest.mark.parametrize(
    ("framework", "head"), [(MXNET, "output.weight"), (PYTORCH, "head.weight")]
)
def test_classes_are_those_of_the_head(framework, head):
    model = aff_jax.create_model("cifar_resnet8")
    assert checkpoint_num_classes({head: np.zeros((7, 64))}, model, framework) == 7
    assert checkpoint_num_classes({"other.weight": np.zeros((7, 64))}, model, framework) == 10


def test_help_is_the_first_line_of_a_docstring():
    assert help_line(check_target) == "Check that a file can be written."


def test_sizes_are_square_or_height_and_width():
    assert image_size("224") == (224, 224)
    assert image_size("240x320") == (240, 320)
    for text in ("0", "224x", "x224", "224x0", "-3", "a"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected 224 or"):
            image_size(text)
