"""The fusions by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from aff_jax.fusion.aff import AFF, IAFF
from aff_jax.fusion.baselines import Add, Concat
from aff_jax.fusion.gated import GAU, SE, SK, Highway
from aff_jax.lookup import accepted_fields, construct, look_up

__all__ = ["FUSIONS", "FusionSpec", "create_fusion", "list_fusions", "make_fusion"]

FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "add": Add,
    "concat": Concat,
    "se": SE,
    "ms_se": partial(SE, scales=("local", "global")),
    "gau": GAU,
    "ms_gau": partial(GAU, scales=("local", "global")),
    "highway": Highway,
    "sk": SK,
    "aff": AFF,
    "iaff": IAFF,
}
"""What makes each fusion, by its name."""

FusionSpec = str | Callable[..., nn.Module]
"""A registered name, or a function that makes a module called as `(x, y, train)`."""


def create_fusion(name: str, **fields: Any) -> nn.Module:
    """The fusion of that name with those fields, called as `(x, y, train=False)`.

    Raises:
        ValueError: an unknown name or field; offers the nearest and lists all.
    """
    return construct(f"fusion {name!r}", look_up(FUSIONS, "fusion", name), fields)


def list_fusions() -> list[str]:
    """Names that `create_fusion` and the `fusion` field of a host take."""
    return sorted(FUSIONS)


def make_fusion(fusion: FusionSpec, fields: Mapping[str, Any], **shared: Any) -> nn.Module:
    """The fusion of a host: its own `fields`, and of the host's those that it has.

    A function that makes a module is called with the `shared` fields that it has parameters for
    (`name`, `reduction`, `norm`, `kernel_init`, `dtype`, `param_dtype`).

    Raises:
        ValueError: an unknown name or field; offers the nearest and lists all.
    """
    if isinstance(fusion, str):
        make = look_up(FUSIONS, "fusion", fusion)
        return construct(f"fusion {fusion!r}", make, fields, defaults=shared)
    if isinstance(fusion, nn.Module):
        raise ValueError(
            f"expected a registered name or a function that makes a fusion, got the module "
            f"{type(fusion).__name__}. A host makes one for each skip: give the class, a "
            f"functools.partial of it, or a name and `fusion_fields`."
        )
    return fusion(**{**accepted_fields(fusion, shared), **fields})
