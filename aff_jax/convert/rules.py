"""Rules that map paths of linen modules to names in other frameworks.

A rule is a pair: a regular expression for a path inside a module, and a template for the name in
the framework. Each table of rules belongs to a class of modules. A name is built from the outermost
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
from aff_jax.convert.host_rules import (
    TORCHVISION_RESNET,
    Rule,
    gluon_cifar_resnet_rules,
    gluon_cifar_resnext_rules,
    gluon_resnet_v1d_rules,
)
from aff_jax.fusion.aff import AFF
from aff_jax.fusion.gated import GatedFusion
from aff_jax.fusion.iaff import IAFF
from aff_jax.hosts.cifar_resnet import CIFARResNet
from aff_jax.hosts.cifar_resnext import CIFARResNeXt
from aff_jax.hosts.resnet import ResNet
from aff_jax.hosts.resnet_v1d import ResNetV1d
from aff_jax.inspection import ModulePath, Structure

__all__ = [
    "MXNET",
    "PYTORCH",
    "Framework",
    "Table",
    "attention_rules",
]

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
        """Return the name of a submodule in the framework.

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


def attention_rules(module: Any) -> list[Rule]:
    """Return the rules for the branches of a module with attention.

    In open-aff, a branch is an nn.Sequential of convolution, norm, activation, convolution, norm.
    A global branch starts with a pooling. Where there are no norms, the others move up.

    Args:
        module: `MSCAM` or a fusion with the same fields.

    Returns:
        The rules.
    """
    rules: list[Rule] = []
    for iteration in range(1, getattr(module, "iterations", 1) + 1):
        for position, branch in enumerate(branch_names(module.scales, iteration)):
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


_ATTENTION_TABLES: dict[type[nn.Module], Table] = dict.fromkeys(
    (MSCAM, AFF, IAFF, GatedFusion), attention_rules
)
"""The table of every module with branches of attention."""

PYTORCH = Framework(
    name="PyTorch",
    tables={
        **_ATTENTION_TABLES,
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
        **_ATTENTION_TABLES,
        CIFARResNet: gluon_cifar_resnet_rules,
        CIFARResNeXt: gluon_cifar_resnext_rules,
        ResNetV1d: gluon_resnet_v1d_rules,
    },
    norm={"scale": "gamma", "bias": "beta", "mean": "running_mean", "var": "running_var"},
    other={"kernel": "weight", "scale": "gamma", "embedding": "weight"},
    prelu={"negative_slope": "alpha"},
)
"""Names in open-aff's MXNet code."""
