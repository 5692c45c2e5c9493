"""Rules that map paths of linen modules to names in other frameworks.

A rule is a pair: a regular expression for a path inside a module, and a template for the name in
the reference. Each table of rules belongs to a class of modules. A name is built from the outermost
module inward. At each module that has a table, the rule that matches the longest prefix of the
remaining path applies; a path component that no rule matches keeps its name. A fusion therefore has
the names of its own table in every network that contains it.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn

from aff_jax.attention.branches import branch_names, norm_of
from aff_jax.attention.ms_cam import MSCAM
from aff_jax.fusion.aff import AFF
from aff_jax.fusion.gated import GatedFusion
from aff_jax.fusion.iaff import IAFF
from aff_jax.hosts.cifar_resnet import CIFARResNet
from aff_jax.hosts.cifar_resnext import CIFARResNeXt
from aff_jax.hosts.post_activation import PostActivationHost
from aff_jax.hosts.resnet import ResNet
from aff_jax.hosts.resnet_v1d import ResNetV1d
from aff_jax.inspection import ModulePath, Structure

__all__ = [
    "MXNET",
    "PYTORCH",
    "Framework",
    "Rule",
    "Table",
    "attention",
    "gluon_bottlenecks",
    "gluon_cifar_resnet",
    "gluon_cifar_resnext",
    "gluon_resnet_v1d",
]

Rule = tuple[str, str]
"""A regular expression for a path, and the template of the name in the reference."""

Table = Callable[[Any], Sequence[Rule]]
"""A function of a module that returns its rules, which may depend on fields of the module."""


@dataclasses.dataclass(frozen=True)
class Framework:
    """Names in one framework.

    Attributes:
        name: Name of the framework in error messages.
        tables: Rules by class of module.
        norm: Names of the variables of batch norms.
        other: Names of the variables of all other layers.
        prelu: Name of the variable of `nn.PReLU`.
    """

    name: str
    tables: Mapping[type[nn.Module], Table]
    norm: Mapping[str, str]
    other: Mapping[str, str]
    prelu: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name_of(self, path: ModulePath, structure: Structure) -> str:
        """Return the name of a submodule in the reference.

        Args:
            path: Path of the submodule.
            structure: Structure of the module that contains it.

        Returns:
            Components joined by dots; an empty string for an empty path.
        """
        parts: list[str] = []
        start = 0
        while start < len(path):
            rules = self._rules_at(path[:start], structure)
            for stop in range(len(path), start, -1):
                name = _apply(rules, "/".join(path[start:stop]))
                if name is not None:
                    break
            else:
                name, stop = path[start], start + 1
            parts.append(name)
            start = stop
        return ".".join(parts)

    def _rules_at(self, path: ModulePath, structure: Structure) -> Sequence[Rule]:
        layer = structure.layers.get(path)
        if layer is not None:
            for kind, table in self.tables.items():
                if isinstance(layer.module, kind):
                    return table(layer.module)
        return ()


def _apply(rules: Sequence[Rule], path: str) -> str | None:
    for pattern, template in rules:
        match = re.fullmatch(pattern, path)
        if match:
            return match.expand(template)
    return None


def attention(module: Any) -> list[Rule]:
    """Return the rules for the branches of a module of attention.

    In open-aff, a branch is an nn.Sequential of convolution, norm, activation, convolution, norm.
    A global branch starts with a pooling. Where there are no norms, the others move up.

    Args:
        module: `MSCAM` or a fusion with the same fields.

    Returns:
        The rules.
    """
    rules: list[Rule] = []
    for number in range(1, getattr(module, "iterations", 1) + 1):
        for position, branch in enumerate(branch_names(module.scales, number)):
            scale = module.scales[position]
            name = f"{scale}_att{branch.removeprefix(scale)}"
            reduce = 1 if scale == "global" else 0
            expand = reduce + (2 if norm_of(module, position) is None else 3)
            rules += [
                (branch, name),
                (rf"{branch}/reduce", rf"{name}.{reduce}"),
                (rf"{branch}/reduce_norm", rf"{name}.{reduce + 1}"),
                (rf"{branch}/expand", rf"{name}.{expand}"),
                (rf"{branch}/expand_norm", rf"{name}.{expand + 1}"),
            ]
    return rules


ATTENTION_TABLES: dict[type[nn.Module], Table] = dict.fromkeys(
    (MSCAM, AFF, IAFF, GatedFusion), attention
)
"""The table of every module with branches of attention."""


# The networks of open-aff's MXNet code: `model/classification.py` and `model/block.py`.
def gluon_cifar_resnet(module: CIFARResNet) -> list[Rule]:
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


def gluon_resnet_v1d(module: ResNetV1d) -> list[Rule]:
    """Return the rules for AFFResNet, or for AFFResNeXt if the module has groups.

    Args:
        module: The network.

    Returns:
        Pairs of a pattern of paths and a template of names.
    """
    if module.groups > 1:
        rules = [(r"head", r"output"), *gluon_bottlenecks(module, first_stage=10)]
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


def gluon_cifar_resnext(module: CIFARResNeXt) -> list[Rule]:
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
        *gluon_bottlenecks(module, first_stage=3),
    ]


def gluon_bottlenecks(module: PostActivationHost, first_stage: int) -> list[Rule]:
    """Return the rules for stages of bottlenecks.

    Args:
        module: The network.
        first_stage: Position of the first stage in Gluon's `features`.

    Returns:
        The rules.
    """
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


# open-aff `aff_pytorch/aff_net/aff_resnet.py`, after torchvision `models/resnet.py`.
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

PYTORCH = Framework(
    name="PyTorch",
    tables={
        **ATTENTION_TABLES,
        ResNet: lambda _: TORCHVISION_RESNET,
    },
    norm={"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"},
    other={"kernel": "weight", "scale": "weight", "embedding": "weight"},
    prelu={"negative_slope": "weight"},
)
"""Names in open-aff's PyTorch code."""

MXNET = Framework(
    name="MXNet",
    tables={
        **ATTENTION_TABLES,
        CIFARResNet: gluon_cifar_resnet,
        CIFARResNeXt: gluon_cifar_resnext,
        ResNetV1d: gluon_resnet_v1d,
    },
    norm={"scale": "gamma", "bias": "beta", "mean": "running_mean", "var": "running_var"},
    other={"kernel": "weight", "scale": "gamma", "embedding": "weight"},
    prelu={"negative_slope": "alpha"},
)
"""Names in open-aff's MXNet code."""
