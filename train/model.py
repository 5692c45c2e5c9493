"""The network that a config names, and what it costs."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

import aff_jax
from aff_jax.hosts.resnet_v1d import MSRA_PRELU
from aff_jax.lookup import look_up
from train.data.pipeline import open_splits
from train.data.sources.source import Source
from train.steps.parallel import AXIS
from train.steps.precision import DTYPES
from train.steps.state import count_parameters

__all__ = ["KERNEL_INITS", "check_output", "make_model", "network_cost"]

KERNEL_INITS = {
    "xavier": nn.initializers.xavier_uniform(),
    "he": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "msra_prelu": MSRA_PRELU,
}
"""How kernels start: Glorot and Bengio, 2010, and He et al., 2015, by fan-out and by mean fan."""


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The network that a config names."""
    norm_axis = AXIS if config.sync_batch_norm else None
    own = {}
    if config.kernel_init:
        own["kernel_init"] = look_up(KERNEL_INITS, "kernel_init", config.kernel_init)
    return aff_jax.create_model(
        config.model,
        fusion=config.fusion,
        fusion_fields=config.fusion_fields.to_dict(),
        reference=config.reference,
        num_classes=num_classes,
        norm=partial(aff_jax.BatchNorm, axis_name=norm_axis),
        dtype=DTYPES[config.dtype],
        **own,
        **config.model_fields,
    )


def network_cost(config: ConfigDict) -> tuple[int, float]:
    """Trainable parameters, and floating-point operations of a forward pass over one image.

    A multiply and an add are two operations. NaN where XLA does not say how many they are.

    Raises:
        ValueError: as `prepare`.
        FileNotFoundError: the data set is not prepared.
    """
    source, _ = open_splits(config)
    model = make_model(config, source.num_classes)
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    check_output(config, model, variables, source)
    cost = jax.jit(model.apply).lower(variables, image).cost_analysis() or {}
    return count_parameters(variables["params"]), cost.get("flops", math.nan)


def check_output(
    config: ConfigDict, model: nn.Module, variables: Mapping[str, Any], source: Source
) -> None:
    """`ValueError` where the network's answers are not of the labels' shape."""
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    output = jax.eval_shape(model.apply, variables, image)
    expected = (1, *source.label_shape, source.num_classes)
    if output.shape != expected:
        raise ValueError(
            f"expected a network whose output for one image of {config.dataset!r} has the shape "
            f"{expected}, got {output.shape} from {config.model!r}. Segmentation needs a network "
            f"that answers for each pixel, classification one that answers for the image; set "
            f"--config.model."
        )
