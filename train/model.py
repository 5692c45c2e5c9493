"""Make the network of a config, check its outputs, and compute its cost."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from aff_jax.hosts.registry import create_model
from aff_jax.hosts.resnet_v1d import MSRA_PRELU
from aff_jax.inspection import count_flops, count_parameters
from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm
from train.data.pipeline import open_splits
from train.data.sources.data_source import Source
from train.steps.parallel import AXIS
from train.steps.precision import DTYPES

__all__ = [
    "KERNEL_INITS",
    "check_output_shape",
    "expected_output_shape",
    "make_model",
    "network_cost",
]

KERNEL_INITS = {
    "xavier": nn.initializers.xavier_uniform(),
    "he": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "msra_prelu": MSRA_PRELU,
}
"""Initializers of kernels by name.

References:
    Glorot and Bengio, 2010, for "xavier"; He et al., 2015, with the fan-out for "he" and with the
    mean of fan-in and fan-out for "msra_prelu".
"""


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """Make the network of a config.

    Args:
        config: The config.
        num_classes: Number of classes of the dataset.

    Returns:
        The network. Its batch norms average over the mapped axis `AXIS` if the config has
        `sync_batch_norm`.

    Raises:
        ValueError: If the network, the fusion, the reference, the initializer or a field is
            unknown.
    """
    kernel_init = {}
    if config.kernel_init:
        kernel_init["kernel_init"] = look_up(KERNEL_INITS, "kernel_init", config.kernel_init)
    return create_model(
        config.model,
        fusion=config.fusion,
        fusion_fields=config.fusion_fields.to_dict(),
        reference=config.reference,
        num_classes=num_classes,
        norm=partial(BatchNorm, axis_name=AXIS if config.sync_batch_norm else None),
        dtype=DTYPES[config.dtype],
        **kernel_init,
        **config.model_fields,
    )


def network_cost(config: ConfigDict) -> tuple[int, float]:
    """Count the parameters of a config's network, and the operations of its forward pass.

    Args:
        config: The config.

    Returns:
        A tuple of the number of trainable parameters and the number of floating-point operations
        for one image. A multiply-add is two operations. The number of operations is NaN if XLA does
        not report it.

    Raises:
        ValueError: If a field of the config has an invalid value.
        FileNotFoundError: If the dataset is not prepared.
    """
    source, _ = open_splits(config)
    model = make_model(config, source.num_classes)
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    check_output_shape(config, model, variables, source)
    flops = count_flops(jax.jit(model.apply).lower(variables, image))
    return count_parameters(variables["params"]), flops


def check_output_shape(
    config: ConfigDict, model: nn.Module, variables: Mapping[str, Any], source: Source
) -> None:
    """Check that the network's logits have the shape of the labels.

    Args:
        config: The config, for the error message.
        model: The network.
        variables: Variables of the network, or their shapes.
        source: A split of the dataset.

    Raises:
        ValueError: If the shapes differ.
    """
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    output = jax.eval_shape(model.apply, variables, image)
    expected = expected_output_shape(source)
    if output.shape != expected:
        raise ValueError(
            f"expected a network whose output for one image of {config.dataset!r} has the shape "
            f"{expected}, got {output.shape} from {config.model!r}. Segmentation needs a network "
            f"with an output per pixel, classification one with an output per image; set "
            f"--config.model."
        )


def expected_output_shape(source: Source) -> tuple[int, ...]:
    """Return the shape of the logits for one image of a dataset.

    Args:
        source: A split of the dataset.

    Returns:
        `(1, classes)` for classification and `(1, height, width, classes)` for segmentation.
    """
    return 1, *source.label_shape, source.num_classes
