"""Compare the classes of a run with those of a dataset."""

from __future__ import annotations

from collections.abc import Sequence

from aff_jax.images.image_folder import abbreviate

__all__ = ["require_same_classes"]


def require_same_classes(known: Sequence[str], found: Sequence[str], where: str) -> None:
    """Check that a dataset has the classes that a network was trained with, in their order.

    Args:
        known: Names of the classes of the network, in the order of its outputs.
        found: Names of the classes of the dataset.
        where: Where the second ones were found, for the error message.

    Raises:
        ValueError: If they differ. The message names the differences.
    """
    if tuple(known) == tuple(found):
        return
    moved = [
        f"{name!r} was class {number} and is class {found.index(name)}"
        for number, name in enumerate(known)
        if name in found and found.index(name) != number
    ]
    differences = {
        "missing": [repr(name) for name in known if name not in found],
        "new": [repr(name) for name in found if name not in known],
        "moved": moved,
    }
    if differences["missing"] or differences["new"]:
        del differences["moved"]  # follows from the others
    text = "; ".join(f"{kind}: {abbreviate(names)}" for kind, names in differences.items() if names)
    raise ValueError(
        f"expected the {len(known)} classes that this run was trained with, got {len(found)} in "
        f"{where}. {text[0].upper()}{text[1:]}. A prediction would have the wrong name. Probably "
        f"classes.txt, ignore_label or the folders of the classes were changed: undo that, or "
        f"train a new run in another --workdir."
    )
