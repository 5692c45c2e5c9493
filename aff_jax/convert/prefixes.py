"""Select and rename arrays by the prefixes of their names."""

import difflib
from collections.abc import Mapping
from typing import Any

__all__ = ["find_prefixes", "rename_prefixes", "select_prefix"]

SHARE = 0.9
"""Share of the expected names that must be found with a prefix."""


def rename_prefixes(
    arrays: Mapping[str, Any], rename: Mapping[str, str] | None, strict: bool = True
) -> dict[str, Any]:
    """Replace the longest matching prefix of each name.

    Args:
        arrays: Values by name.
        rename: New prefixes by old prefix. A prefix is a whole number of dotted components. The
            empty prefix matches every name.
        strict: Raise an error for a prefix that matches no name.

    Returns:
        The same values by their new names.

    Raises:
        ValueError: If two names become equal, or, with `strict`, a prefix matches no name.
    """
    prefixes = sorted(rename or {}, key=len, reverse=True)
    unused = set(prefixes)
    result: dict[str, Any] = {}
    for name, array in arrays.items():
        new = name
        for prefix in prefixes:
            dotted = f"{prefix}." if prefix else ""
            if f"{name}.".startswith(dotted):
                rest = name[len(dotted) :]
                new = ".".join(part for part in ((rename or {})[prefix], rest) if part)
                unused.discard(prefix)
                break
        if new in result:
            raise ValueError(
                f"rename gives two arrays the name {new!r}; one of them was {name!r}. Map them to "
                f"different prefixes."
            )
        result[new] = array
    if unused and strict:
        raise ValueError(
            f"rename: no name begins with {', '.join(map(repr, sorted(unused)))}. The first names "
            f"are {', '.join(list(arrays)[:3])}."
        )
    return result


def select_prefix(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Select the arrays whose names begin with a prefix, and remove the prefix.

    Args:
        arrays: Values by name.
        prefix: A whole number of dotted components, with or without a final dot. The empty prefix
            selects everything.

    Returns:
        The selected values by the rest of their names.

    Raises:
        ValueError: If no name begins with the prefix.
    """
    dotted = f"{prefix.removesuffix('.')}." if prefix else ""
    selected = {n.removeprefix(dotted): a for n, a in arrays.items() if n.startswith(dotted)}
    if arrays and not selected:
        parts = [name.split(".") for name in arrays]
        known = {".".join(p[:end]) + "." for p in parts for end in range(1, len(p))}
        near = difflib.get_close_matches(dotted, sorted(known), n=3, cutoff=0.5)
        hint = f"Similar prefixes are {', '.join(map(repr, near))}. " if near else ""
        raise ValueError(
            f"prefix: no name begins with {dotted!r}. {hint}The first names are "
            f"{', '.join(list(arrays)[:3])}. A wrapping such as 'module.' that all names share is "
            f"removed before."
        )
    return selected


def find_prefixes(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Find the prefixes with which most of the expected names are among those found.

    Args:
        expected: Values by the expected name.
        found: Values by the name that was found.

    Returns:
        Prefixes with a final dot, in alphabetical order.
    """
    candidates = set()
    # Any one name may be missing, so try three.
    for name in list(expected)[:3]:
        candidates |= {f.removesuffix(name) for f in found if f.endswith(f".{name}")}
    needed = SHARE * len(expected)
    return sorted(p for p in candidates if sum(p + n in found for n in expected) >= needed)
