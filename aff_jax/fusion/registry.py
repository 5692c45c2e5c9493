"""The fusions by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from aff_jax.fusion.aff import AFF
from aff_jax.fusion.baselines import Add, Concat
from aff_jax.fusion.gated import GAU, SE, SK, Highway
from aff_jax.fusion.iaff import IAFF
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
"""For each name, the function that makes the fusion."""

FusionSpec = str | Callable[..., nn.Module]
"""A registered name, or a function that makes a module called as `(x, y, train)`."""


def create_fusion(name: str, **fields: Any) -> nn.Module:
    """Create the fusion of a registered name.

    Args:
        name: One of `list_fusions()`.
        **fields: Fields of the fusion.

    Returns:
        The module, called as `(x, y, train=False)`.

    Raises:
        ValueError: If the name or a field is unknown. The message lists the known ones, the nearest
            first.
    """
    return construct(f"fusion {name!r}", look_up(FUSIONS, "fusion", name), fields)


def list_fusions() -> list[str]:
    """Return the names that `create_fusion` and the field `fusion` of a network accept."""
    return sorted(FUSIONS)


def make_fusion(fusion: FusionSpec, fields: Mapping[str, Any], **shared: Any) -> nn.Module:
    """Make a fusion for a network.

    Args:
        fusion: A registered name, or a function that makes a module.
        fields: Fields of the fusion.
        **shared: Fields of the network (`name`, `reduction`, `norm`, `kernel_init`, `dtype`,
            `param_dtype`). The fusion gets those that it has and that `fields` does not set.

    Returns:
        The module, called as `(x, y, train=False)`.

    Raises:
        ValueError: If the name or a field is unknown, or `fusion` is a module. The message lists
            the known names, the nearest first.
    """
    if isinstance(fusion, str):
        make = look_up(FUSIONS, "fusion", fusion)
        return construct(f"fusion {fusion!r}", make, fields, defaults=shared)
    if isinstance(fusion, nn.Module):
        raise ValueError(
            f"expected a registered name or a function that makes a fusion, got the module "
            f"{type(fusion).__name__}. A network makes one fusion for each skip connection: pass "
            f"the class, a functools.partial of it, or a name and `fusion_fields`."
        )
    return fusion(**{**accepted_fields(fusion, shared), **fields})
