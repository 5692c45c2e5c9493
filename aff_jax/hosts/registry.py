"""The host networks by name, and the three references that they can follow."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from aff_jax.fusion.registry import FUSIONS, FusionSpec, create_fusion
from aff_jax.hosts.cifar import CIFARResNet
from aff_jax.hosts.cifar_resnext import CIFARResNeXt
from aff_jax.hosts.inception import InceptionNet
from aff_jax.hosts.pyramid import FPN, UNet
from aff_jax.hosts.resnet import ResNet
from aff_jax.hosts.resnet_v1d import ResNetV1d
from aff_jax.lookup import accepted_fields, construct, look_up
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["HOSTS", "REFERENCES", "create_model", "host_classes", "list_models"]

HOSTS: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet8": partial(CIFARResNet, blocks_per_stage=1),
    "cifar_resnet14": partial(CIFARResNet, blocks_per_stage=2),
    "cifar_resnet20": partial(CIFARResNet, blocks_per_stage=3),
    "cifar_resnet32": partial(CIFARResNet, blocks_per_stage=5),
    "cifar_resnet44": partial(CIFARResNet, blocks_per_stage=7),
    "cifar_resnet56": partial(CIFARResNet, blocks_per_stage=9),
    "cifar_resnet110": partial(CIFARResNet, blocks_per_stage=18),
    "cifar_resnext29_32x4d": partial(CIFARResNeXt, blocks_per_stage=(3, 3, 3)),
    "cifar_resnext38_32x4d": partial(CIFARResNeXt, blocks_per_stage=(4, 4, 4)),
    "cifar_resnext47_32x4d": partial(CIFARResNeXt, blocks_per_stage=(5, 5, 5)),
    "inception8": partial(InceptionNet, blocks_per_stage=1),
    "inception14": partial(InceptionNet, blocks_per_stage=2),
    "inception20": partial(InceptionNet, blocks_per_stage=3),
    "inception26": partial(InceptionNet, blocks_per_stage=4),
    "fpn_resnet20": partial(FPN, blocks_per_stage=3),
    "unet_resnet20": partial(UNet, blocks_per_stage=3),
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
"""What makes each host network, by its name."""

REFERENCES: dict[str, Mapping[str, Mapping[str, Any]]] = {
    # The formulas as printed.
    "paper": {},
    # open-aff, `aff_pytorch/aff_net/fusion.py`; PyTorch keeps n / (n - 1) times the variance.
    "pytorch": {
        "aff": {"gain": 2.0},
        "iaff": {"gain": 1.0, "share_global": True},
        "norm": {"unbiased_variance": True},
    },
    # open-aff, `model/fusion.py`, of all published weights.
    "mxnet": {
        "aff": {"gain": 2.0},
        "iaff": {"gain": 1.0},
    },
}
"""Where references depart from the modules' defaults: fields by fusion, and those of the norm."""


def create_model(
    name: str,
    fusion: FusionSpec = "aff",
    reference: str = "paper",
    num_classes: int = 1000,
    **fields: Any,
) -> nn.Module:
    """The host network of that name with its skips fused, called as `(images, train=False)`.

    `reference` sets the fields in which the paper, open-aff's PyTorch port ("pytorch") and
    open-aff's MXNet code ("mxnet", all published weights) disagree; `fusion_fields` and `norm`,
    given explicitly, have the last word, and a `fusion` of your own keeps its own formulas.
    `fields` are further ones of the host.

        >>> import aff_jax, jax, jax.numpy as jnp
        >>> model = aff_jax.create_model("cifar_resnet8", fusion="iaff", num_classes=10)
        >>> images = jnp.zeros((4, 8, 8, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> jax.jit(model.apply)(variables, images).shape
        (4, 10)

    Raises:
        ValueError: an unknown name, fusion, reference or field; offers the nearest and lists all.
    """
    host = look_up(HOSTS, "model", name)
    departures = look_up(REFERENCES, "reference", reference)
    # A registered class is as good as its name, so that a reference holds for it too.
    fusion = next((name for name, made in FUSIONS.items() if made is fusion), fusion)
    if isinstance(fusion, str):
        fusion_fields = {**departures.get(fusion, {}), **fields.pop("fusion_fields", {})}
        fields["fusion_fields"] = nn.FrozenDict(fusion_fields)
        create_fusion(fusion, **fusion_fields)  # a mistake is better found now than at a first call
    if "norm" in departures:
        norm = fields.get("norm", BatchNorm)
        fields["norm"] = partial(norm, **accepted_fields(norm, departures["norm"]))
    fields.update(num_classes=num_classes, fusion=fusion)
    return construct(f"model {name!r}", host, fields)


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return sorted(HOSTS)


def host_classes() -> list[type[nn.Module]]:
    """The classes of the modules that `create_model` makes."""
    makers = [maker.func if isinstance(maker, partial) else maker for maker in HOSTS.values()]
    return list(dict.fromkeys(maker for maker in makers if isinstance(maker, type)))
