"""The table of host networks, the table of references, and `create_model`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from aff_jax.fusion.registry import FUSIONS, FusionSpec, create_fusion
from aff_jax.hosts.cifar_resnet import CIFARResNet
from aff_jax.hosts.cifar_resnext import CIFARResNeXt
from aff_jax.hosts.inception import InceptionNet
from aff_jax.hosts.pyramid import FPN, UNet
from aff_jax.hosts.resnet import ResNet
from aff_jax.hosts.resnet_v1d import ResNetV1d
from aff_jax.lookup import accepted_fields, construct, look_up
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["MODELS", "REFERENCES", "create_model", "list_models", "model_classes"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet8": partial(CIFARResNet, blocks_per_stage=(1, 1, 1)),
    "cifar_resnet14": partial(CIFARResNet, blocks_per_stage=(2, 2, 2)),
    "cifar_resnet20": partial(CIFARResNet, blocks_per_stage=(3, 3, 3)),
    "cifar_resnet32": partial(CIFARResNet, blocks_per_stage=(5, 5, 5)),
    "cifar_resnet44": partial(CIFARResNet, blocks_per_stage=(7, 7, 7)),
    "cifar_resnet56": partial(CIFARResNet, blocks_per_stage=(9, 9, 9)),
    "cifar_resnet110": partial(CIFARResNet, blocks_per_stage=(18, 18, 18)),
    "cifar_resnext29_32x4d": partial(CIFARResNeXt, blocks_per_stage=(3, 3, 3)),
    "cifar_resnext38_32x4d": partial(CIFARResNeXt, blocks_per_stage=(4, 4, 4)),
    "cifar_resnext47_32x4d": partial(CIFARResNeXt, blocks_per_stage=(5, 5, 5)),
    "inception8": partial(InceptionNet, blocks_per_stage=(1, 1, 1)),
    "inception14": partial(InceptionNet, blocks_per_stage=(2, 2, 2)),
    "inception20": partial(InceptionNet, blocks_per_stage=(3, 3, 3)),
    "inception26": partial(InceptionNet, blocks_per_stage=(4, 4, 4)),
    "fpn_resnet20": partial(FPN, blocks_per_stage=(3, 3, 3)),
    "unet_resnet20": partial(UNet, blocks_per_stage=(3, 3, 3)),
    "resnet18": partial(ResNet, block="basic", blocks_per_stage=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, block="basic", blocks_per_stage=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, blocks_per_stage=(3, 4, 6, 3)),
    "resnet101": partial(ResNet, blocks_per_stage=(3, 4, 23, 3)),
    "resnet152": partial(ResNet, blocks_per_stage=(3, 8, 36, 3)),
    "resnext50_32x4d": partial(ResNet, blocks_per_stage=(3, 4, 6, 3), groups=32, width_per_group=4),
    "resnext101_32x8d": partial(
        ResNet, blocks_per_stage=(3, 4, 23, 3), groups=32, width_per_group=8
    ),
    "wide_resnet50_2": partial(ResNet, blocks_per_stage=(3, 4, 6, 3), width_per_group=128),
    "wide_resnet101_2": partial(ResNet, blocks_per_stage=(3, 4, 23, 3), width_per_group=128),
    "resnet50_v1d": partial(ResNetV1d, blocks_per_stage=(3, 4, 6, 3)),
    "resnet101_v1d": partial(ResNetV1d, blocks_per_stage=(3, 4, 23, 3)),
    # GluonCV's. In open-aff's `train_imagenet.py` "152" makes (3, 4, 36, 3), of 140 layers.
    "resnet152_v1d": partial(ResNetV1d, blocks_per_stage=(3, 8, 36, 3)),
    "resnext50_32x4d_v1d": partial(
        ResNetV1d, blocks_per_stage=(3, 4, 6, 3), groups=32, width_per_group=4, stem_width=64
    ),
}
"""For each name, the function that makes the network."""

REFERENCES: dict[str, Mapping[str, Mapping[str, Any]]] = {
    # The formulas as printed.
    "paper": {},
    # open-aff `aff_pytorch/aff_net/fusion.py`. PyTorch's running variance is n / (n - 1) times
    # the variance of the batch.
    "pytorch": {
        "aff": {"gain": 2.0},
        "iaff": {"gain": 1.0, "share_global": True},
        "norm": {"unbiased_variance": True},
    },
    # open-aff `model/fusion.py`, the code of all published weights.
    "mxnet": {
        "aff": {"gain": 2.0},
        "iaff": {"gain": 1.0},
    },
}
"""For each reference, the fields that it sets in fusions, by their name, and in norms."""


def create_model(
    name: str,
    fusion: FusionSpec = "aff",
    reference: str = "paper",
    num_classes: int | None = None,
    **fields: Any,
) -> nn.Module:
    """Create a model: a network with attentional feature fusion.

    It is a host network, such as ResNet-50, in which a fusion module replaces the addition of two
    feature maps. `reference` selects whose formulas the network follows: those of the paper
    ("paper"), of the authors' PyTorch port ("pytorch"), or of the authors' MXNet code ("mxnet"),
    with which all published weights were trained. `REFERENCES` has the fields that differ.

        >>> import aff_jax, jax, jax.numpy as jnp
        >>> model = aff_jax.create_model("cifar_resnet8", fusion="iaff", num_classes=10)
        >>> images = jnp.zeros((4, 8, 8, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> jax.jit(model.apply)(variables, images).shape
        (4, 10)

    Args:
        name: Name of the model, one of `list_models()`.
        fusion: Name of a fusion, one of `list_fusions()`, or a function that makes a fusion
            module. A reference does not change the fields of a function that is not registered.
        reference: "paper", "pytorch" or "mxnet".
        num_classes: Number of classes. None is the default of the host: 1000 for the networks of
            ImageNet, and 10 for others.
        **fields: Further fields of the host. `fusion_fields` and the fields of `norm` take
            precedence over those that the reference sets.

    Returns:
        A module that is called as `(images, train=False)`, with images of shape
        `(batch, height, width, channels)`. Models of equal arguments are equal and have the same
        hash.

    Raises:
        ValueError: If the name, the fusion, the reference or a field is unknown. The message
            suggests similar names and lists all.
        TypeError: If a field has a value of a wrong type.
    """
    host = look_up(MODELS, "model", name)
    differences = look_up(REFERENCES, "reference", reference)
    # A reference also applies to a registered class that is given instead of its name.
    fusion = next((key for key, made in FUSIONS.items() if made is fusion), fusion)
    given = fields.get("fusion_fields", {})
    if isinstance(fusion, str) and isinstance(given, Mapping):
        fusion_fields = {**differences.get(fusion, {}), **given}
        fields["fusion_fields"] = nn.FrozenDict(fusion_fields)
        create_fusion(fusion, **fusion_fields)  # report a wrong field now, not at the first call
    norm = fields.get("norm", BatchNorm)
    if "norm" in differences and callable(norm):  # the host refuses other values
        fields["norm"] = partial(norm, **accepted_fields(norm, differences["norm"]))
    if num_classes is not None:
        fields["num_classes"] = num_classes
    fields["fusion"] = fusion
    return construct(f"model {name!r}", host, fields)


def list_models() -> list[str]:
    """Return the names that `create_model` accepts."""
    return sorted(MODELS)


def model_classes() -> list[type[nn.Module]]:
    """Return the classes of the modules that `create_model` creates."""
    makers = [maker.func if isinstance(maker, partial) else maker for maker in MODELS.values()]
    return list(dict.fromkeys(maker for maker in makers if isinstance(maker, type)))
