"""Tables of names of the host networks, in open-aff's PyTorch and MXNet code.

`TORCHVISION_RESNET` is for `aff_pytorch/aff_net/aff_resnet.py`, which follows torchvision's
`models/resnet.py`. The functions `gluon_*_rules` are for the networks of `model/classification.py`
and `model/block.py`. `aff_jax.convert.rules` says how a table is read, and assigns these tables to
the classes of the networks.
"""

from aff_jax.hosts.cifar_resnet import CIFARResNet
from aff_jax.hosts.cifar_resnext import CIFARResNeXt
from aff_jax.hosts.post_activation import PostActivationHost
from aff_jax.hosts.resnet_v1d import ResNetV1d

__all__ = [
    "TORCHVISION_RESNET",
    "Rule",
    "gluon_cifar_resnet_rules",
    "gluon_cifar_resnext_rules",
    "gluon_resnet_v1d_rules",
]

Rule = tuple[str, str]
"""A regular expression for a path, and the template of the name in the framework."""

TORCHVISION_RESNET: list[Rule] = [
    (r"stem/conv", r"conv1"),
    (r"stem/norm", r"bn1"),
    (r"stage(\d)_block(\d+)", r"layer\1.\2"),
    (r"stage(\d)_block(\d+)/conv(\d)/conv", r"layer\1.\2.conv\3"),
    (r"stage(\d)_block(\d+)/conv(\d)/norm", r"layer\1.\2.bn\3"),
    (r"stage(\d)_block(\d+)/downsample", r"layer\1.\2.downsample"),
    (r"stage(\d)_block(\d+)/downsample/conv", r"layer\1.\2.downsample.0"),
    (r"stage(\d)_block(\d+)/downsample/norm", r"layer\1.\2.downsample.1"),
    (r"stage(\d)_block(\d+)/fuse", r"layer\1.\2.fuse_mode"),
    (r"head", r"fc"),
]
"""The rules for the ResNets of the PyTorch code."""


def gluon_cifar_resnet_rules(module: CIFARResNet) -> list[Rule]:
    """Return the rules for CIFARAFFResNet.

    Args:
        module: The network.

    Returns:
        Pairs of a pattern of paths and a template of names.
    """
    # `features` contains the input norm, the stem (conv, or twice conv-norm-relu and conv), the
    # stages, the final norm, ReLU and the pool.
    stem = 7 if module.deep_stem else 1
    stages = range(1, len(module.blocks_per_stage) + 1)
    rules = [
        (r"input_norm", r"features.0"),
        (r"deep_stem1/conv", r"features.1"),
        (r"deep_stem1/norm", r"features.2"),
        (r"deep_stem2/conv", r"features.4"),
        (r"deep_stem2/norm", r"features.5"),
        (r"stem", rf"features.{stem}"),
        (r"final_norm", rf"features.{stem + len(stages) + 1}"),
        (r"head", r"output"),
    ]
    for stage in stages:
        path, name = rf"stage{stage}_block(\d+)", rf"features.{stem + stage}.\1"
        rules += [
            (rf"{path}/norm1", rf"{name}.resfwd.0"),
            (rf"{path}/conv1", rf"{name}.resfwd.2"),
            (rf"{path}/norm2", rf"{name}.resfwd.3"),
            (rf"{path}/conv2", rf"{name}.resfwd.5"),
            (rf"{path}/downsample", rf"{name}.downsample.1"),
            (rf"{path}/fuse", rf"{name}.attention"),
        ]
    return rules


def gluon_resnet_v1d_rules(module: ResNetV1d) -> list[Rule]:
    """Return the rules for AFFResNet, or for AFFResNeXt if the module has groups.

    Args:
        module: The network.

    Returns:
        Pairs of a pattern of paths and a template of names.
    """
    if module.groups > 1:
        rules = [(r"head", r"output"), *_gluon_bottleneck_rules(module, first_stage=10)]
        # `features` starts with conv, norm and relu three times, and a pool.
        for index in (1, 2, 3):
            rules += [
                (rf"stem{index}/conv", rf"features.{3 * index - 3}"),
                (rf"stem{index}/norm", rf"features.{3 * index - 2}"),
            ]
        # Stage 1 has stride 1, so its skip connection has no pool before the projection.
        plain = r"features.10.\1.downsample"
        return [
            (r"stage1_block(\d+)/downsample/conv", rf"{plain}.0"),
            (r"stage1_block(\d+)/downsample/norm", rf"{plain}.1"),
            *rules,
        ]
    block = r"stage(\d)_block(\d+)"
    return [
        (r"stem1/conv", r"conv1.0"),
        (r"stem1/norm", r"conv1.1"),
        (r"stem2/conv", r"conv1.3"),
        (r"stem2/norm", r"conv1.4"),
        (r"stem3/conv", r"conv1.6"),
        (r"stem3/norm", r"bn1"),
        (rf"{block}/conv(\d)/conv", r"layer\1.\2.conv\3"),
        (rf"{block}/conv(\d)/norm", r"layer\1.\2.bn\3"),
        (rf"{block}/downsample/conv", r"layer\1.\2.downsample.1"),
        (rf"{block}/downsample/norm", r"layer\1.\2.downsample.2"),
        (rf"{block}/fuse", r"layer\1.\2.attention"),
        (r"head", r"fc"),
    ]


def gluon_cifar_resnext_rules(module: CIFARResNeXt) -> list[Rule]:
    """Return the rules for CIFARAFFResNeXt: conv, norm and relu, then the stages.

    Args:
        module: The network.

    Returns:
        Pairs of a pattern of paths and a template of names.
    """
    return [
        (r"stem/conv", r"features.0"),
        (r"stem/norm", r"features.1"),
        (r"head", r"output"),
        *_gluon_bottleneck_rules(module, first_stage=3),
    ]


def _gluon_bottleneck_rules(module: PostActivationHost, first_stage: int) -> list[Rule]:
    """Return the rules for stages of bottlenecks, the first one at a position in `features`."""
    rules = []
    for stage in range(1, len(module.blocks_per_stage) + 1):
        path, name = rf"stage{stage}_block(\d+)", rf"features.{first_stage + stage - 1}.\1"
        # `body` contains conv, norm and relu three times, without the last relu.
        for index in (1, 2, 3):
            rules += [
                (rf"{path}/conv{index}/conv", rf"{name}.body.{3 * index - 3}"),
                (rf"{path}/conv{index}/norm", rf"{name}.body.{3 * index - 2}"),
            ]
        rules += [
            (rf"{path}/downsample/conv", rf"{name}.downsample.1"),
            (rf"{path}/downsample/norm", rf"{name}.downsample.2"),
            (rf"{path}/fuse", rf"{name}.attention"),
        ]
    return rules
