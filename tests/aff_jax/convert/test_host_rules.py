"""Names of layers of the host networks, by their paths. Expected names are those of open-aff."""

import pytest

from aff_jax import create_model
from aff_jax.convert.rules import MXNET, PYTORCH
from aff_jax.inspection import Layer, Structure


@pytest.mark.parametrize(
    ("framework", "name", "fields", "path", "expected"),
    [
        (PYTORCH, "resnet18", {}, "stem/norm", "bn1"),
        (PYTORCH, "resnet18", {}, "stage2_block1/conv2/conv", "layer2.1.conv2"),
        (PYTORCH, "resnet18", {}, "stage2_block0/downsample/norm", "layer2.0.downsample.1"),
        (PYTORCH, "resnet18", {}, "head", "fc"),
        (MXNET, "cifar_resnet8", {}, "stem", "features.1"),
        (MXNET, "cifar_resnet8", {}, "stage3_block0/downsample", "features.4.0.downsample.1"),
        (MXNET, "cifar_resnet8", {}, "final_norm", "features.5"),
        (MXNET, "cifar_resnet8", {"deep_stem": True}, "deep_stem2/norm", "features.5"),
        (MXNET, "cifar_resnet8", {"deep_stem": True}, "stem", "features.7"),
        (MXNET, "cifar_resnet8", {"deep_stem": True}, "final_norm", "features.11"),
        (MXNET, "cifar_resnext29_32x4d", {}, "stem/conv", "features.0"),
        (MXNET, "cifar_resnext29_32x4d", {}, "stage1_block2/conv3/norm", "features.3.2.body.7"),
        (MXNET, "resnet50_v1d", {}, "stem3/norm", "bn1"),
        (MXNET, "resnet50_v1d", {}, "stage3_block0/fuse", "layer3.0.attention"),
        (MXNET, "resnext50_32x4d_v1d", {}, "stem2/conv", "features.3"),
        (
            MXNET,
            "resnext50_32x4d_v1d",
            {},
            "stage1_block0/downsample/conv",
            "features.10.0.downsample.0",
        ),
        (
            MXNET,
            "resnext50_32x4d_v1d",
            {},
            "stage2_block0/downsample/conv",
            "features.11.0.downsample.1",
        ),
        (MXNET, "resnext50_32x4d_v1d", {}, "head", "output"),
    ],
)
def test_layers_of_a_host(framework, name, fields, path, expected):
    # A structure of the network alone is enough for the rules of its own table.
    structure = Structure({(): Layer(create_model(name, **fields), 2)}, {})
    assert framework.name_of(tuple(path.split("/")), structure) == expected
