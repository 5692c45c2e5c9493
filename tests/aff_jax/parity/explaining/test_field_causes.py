"""Fields of layers are compared with the settings of PyTorch's layers."""

import flax.linen as nn
import pytest
import torch

from aff_jax.parity.explaining.field_causes import explain_fields


def explain(layer, torch_layer, **right):
    """Explain a layer that agrees with PyTorch if the fields have the values `right`."""
    return explain_fields(
        layer,
        torch_layer,
        lambda changed: all(changed.get(name) == value for name, value in right.items()),
    )


def test_a_field_that_makes_the_layer_agree_is_named():
    cause, compared = explain(nn.LayerNorm(), torch.nn.LayerNorm(4), epsilon=1e-5)
    assert cause == "`epsilon` is 1e-06, PyTorch's is 1e-05. With PyTorch's the layer agrees."
    assert compared == ["epsilon", "use_fast_variance"]


def test_only_the_fields_that_matter_are_named():
    conv = nn.Conv(8, (3, 3), padding=1)
    torch_conv = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
    cause, compared = explain(conv, torch_conv, strides=(2, 2))
    assert "`strides` is 1, PyTorch's is (2, 2)" in cause
    assert "groups" not in cause
    assert "feature_group_count" in compared


def test_all_fields_are_named_if_each_of_them_matters():
    torch_conv = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
    right = {"strides": (2, 2), "feature_group_count": 2}
    cause, _ = explain(nn.Conv(8, (3, 3), padding=1), torch_conv, **right)
    assert "`strides`" in cause
    assert "`feature_group_count` is 1, PyTorch's is 2" in cause


def test_fields_that_do_not_make_the_layer_agree_are_not_named():
    cause, compared = explain(nn.LayerNorm(), torch.nn.LayerNorm(4), epsilon="another")
    assert cause == ""
    assert compared == ["epsilon", "use_fast_variance"]


@pytest.mark.parametrize(
    ("layer", "torch_layer"),
    [
        (nn.LayerNorm(), torch.nn.BatchNorm2d(4)),
        (nn.GroupNorm(2), torch.nn.LayerNorm(4)),
        (nn.Dense(4), torch.nn.Conv2d(4, 4, 1)),
    ],
)
def test_layers_of_other_kinds_are_named(layer, torch_layer):
    cause, _ = explain(layer, torch_layer, name="never")
    ours, theirs = type(layer).__name__, type(torch_layer).__name__
    assert cause == f"The layer is a {ours}, and PyTorch's is a {theirs}."


def test_a_transposed_convolution_has_the_padding_that_flax_needs():
    torch_layer = torch.nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1)
    expected = ((1, 2), (1, 2))
    cause, _ = explain(nn.ConvTranspose(8, (3, 3), (2, 2)), torch_layer, padding=expected)
    assert f"`padding` is 'SAME', PyTorch's is {expected}" in cause


def test_unknown_layers_have_no_cause():
    assert explain(nn.Dropout(0.5), torch.nn.Dropout(0.1)) == ("", [])
