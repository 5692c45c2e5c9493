"""The image channels and the classes that a checkpoint determines."""

import numpy as np
import pytest

import aff_jax
from aff_jax.convert.checkpoint_sizes import checkpoint_image_channels, checkpoint_num_classes
from aff_jax.convert.rules import MXNET, PYTORCH


@pytest.mark.parametrize(
    ("framework", "head"), [(MXNET, "output.weight"), (PYTORCH, "head.weight")]
)
def test_classes_are_those_of_the_head(framework, head):
    model = aff_jax.create_model("cifar_resnet8")
    assert checkpoint_num_classes({head: np.zeros((7, 64))}, model, framework) == 7
    assert checkpoint_num_classes({"other.weight": np.zeros((7, 64))}, model, framework) == 10


@pytest.mark.parametrize(
    ("framework", "kernel"), [(MXNET, "features.1.weight"), (PYTORCH, "stem.weight")]
)
def test_channels_are_those_of_the_first_convolution(framework, kernel):
    model = aff_jax.create_model("cifar_resnet8")
    assert checkpoint_image_channels({kernel: np.zeros((16, 5, 3, 3))}, model, framework) == 5
    assert checkpoint_image_channels({"other.weight": np.zeros(7)}, model, framework) == 3
