"""Forms in which PyTorch packs the arrays of a layer, and their selection."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Form", "select_forms"]


class Form(NamedTuple):
    """One way in which PyTorch stores the arrays of a layer.

    Attributes:
        parts: For each array of PyTorch, the arrays that are concatenated along its first axis.
        optional: Arrays that are missing with `bias=False`, and then zero.
    """

    parts: Mapping[str, tuple[str, ...]]
    optional: tuple[str, ...] = ()


def select_forms(
    layers: Sequence[Sequence[Form]], names: Collection[str], prefixes: Collection[str] = ()
) -> list[Form]:
    """Select the form of each layer that a checkpoint has.

    Args:
        layers: Forms of every layer, from `list_forms`.
        names: Names of the checkpoint, if they are known.
        prefixes: Prefixes of its names. They select if there are no names.

    Returns:
        One form for each layer that the checkpoint packs.
    """
    found = []
    for forms in layers:
        form = max(forms, key=lambda form: _fit(form, names, prefixes))  # the first of the best
        if form is not forms[-1]:
            found.append(form)
    return found


def _fit(form: Form, names: Collection[str], prefixes: Collection[str]) -> float:
    """Return how well a form fits: the share of known names, or the longest prefix of one."""
    if names:
        return sum(name in names for name in form.parts) / len(form.parts)
    begins = (
        len(prefix)
        for prefix in prefixes
        if any(f"{name}.".startswith(f"{prefix}.") for name in form.parts)
    )
    return max(begins, default=0)
