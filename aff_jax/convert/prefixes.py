"""Select, rename and drop arrays by their names."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = [
    "Rename",
    "drop_ignored",
    "find_prefixes",
    "rename_arrays",
    "restore_names",
    "select_prefix",
]

Rename = Mapping[Any, str] | Callable[[str], str]
"""New names by old ones, in one of three kinds.

A dict has prefixes or patterns as keys. A prefix is a string, a whole number of dotted components;
the longest one that matches is replaced, and the empty prefix matches every name. A pattern is a
`re.Pattern`; its matches in a name are replaced as by `re.sub`. The first pattern that matches is
used, and prefixes only if none does. A function returns the new name of each name. `aff_jax.parity`
applies the same to names of submodules, so let patterns match modules rather than arrays.
"""

_MIN_MATCH = 0.9
"""Smallest fraction of the expected names that must be found with a prefix."""


def rename_arrays(
    arrays: Mapping[str, Any], rename: Rename | None, strict: bool = True
) -> dict[str, Any]:
    """Replace the longest matching prefix of each name, a pattern in it, or the name.

    Args:
        arrays: Values by name.
        rename: New prefixes by old prefix, new text by pattern, or a function; see `Rename`.
        strict: Raise an error for a prefix or pattern that matches no name.

    Returns:
        The same values by their new names.

    Raises:
        TypeError: If `rename` is of another type, or a function that returns no string.
        ValueError: If two names become equal, a new text has a group that its pattern lacks, or,
            with `strict`, a prefix or pattern matches no name.
    """
    unused = set(rename) if isinstance(rename, Mapping) else set()
    result: dict[str, Any] = {}
    for name, array in arrays.items():
        new = _rename_one(name, rename, unused)
        if new in result:
            raise ValueError(
                f"rename gives two arrays the name {new!r}; one of them was {name!r}. Map them to "
                f"different prefixes."
            )
        result[new] = array
    if unused and strict:
        raise ValueError(
            f"rename: no name begins with {', '.join(sorted(map(_quote_key, unused)))}. The first "
            f"names are {', '.join(list(arrays)[:3])}."
        )
    return result


def _rename_one(name: str, rename: Rename | None, unused: set[Any]) -> str:
    """Return the new name, and remove the key that matches from `unused`."""
    if callable(rename):
        new = rename(name)
        if not isinstance(new, str):
            raise TypeError(f"rename: expected a string as the new name of {name!r}, got {new!r}.")
        return new
    if not isinstance(rename, Mapping | None):
        raise TypeError(
            f"rename: expected a dict of prefixes or patterns, or a function from name to name, "
            f"got {rename!r}."
        )
    for key, new in (rename or {}).items():
        if isinstance(key, re.Pattern) and key.search(name):
            unused.discard(key)
            try:
                return key.sub(new, name)
            except re.error as error:
                raise ValueError(
                    f"rename: {new!r} cannot replace what {key.pattern!r} matches: {error}. A "
                    f"group such as \\1 needs parentheses in the pattern."
                ) from None
    prefixes = [key for key in rename or {} if isinstance(key, str)]
    for prefix in sorted(prefixes, key=len, reverse=True):
        dotted = f"{prefix}." if prefix else ""
        if f"{name}.".startswith(dotted):
            unused.discard(prefix)
            rest = name[len(dotted) :]
            return ".".join(part for part in ((rename or {})[prefix], rest) if part)
    return name


def _quote_key(key: str | re.Pattern[str]) -> str:
    return repr(key) if isinstance(key, str) else f"(or contains) the pattern {key.pattern!r}"


def restore_names(
    arrays: Mapping[str, Any], rename: Rename | None, names: Iterable[str] | None
) -> dict[str, Any]:
    """Undo `rename_arrays`.

    Args:
        arrays: Values by new name.
        rename: The argument of `rename_arrays`.
        names: The old names, if they are known.

    Returns:
        The same values by their old names. With `names`, values without one are left out.

    Raises:
        ValueError: If `rename` cannot be inverted without `names`.
    """
    if names is not None:
        old_names = rename_arrays({name: name for name in names}, rename, strict=False)
        return {old_names[name]: array for name, array in arrays.items() if name in old_names}
    cause = "it is a function" if callable(rename) else ""
    inverse: dict[Any, str] = {}
    for old, new in rename.items() if isinstance(rename, Mapping) else ():
        if isinstance(old, re.Pattern):
            cause = f"{old.pattern!r} is a pattern"
        elif new in inverse:
            cause = f"{inverse[new]!r} and {old!r} both become {new!r}"
        inverse[new] = old
    if cause:
        raise ValueError(
            f"rename: the old names do not follow from the new ones, because {cause}. Pass the old "
            f"names as well, as in names=torch_module.state_dict()."
        )
    return rename_arrays(arrays, inverse)


def drop_ignored(arrays: Mapping[str, Any], ignore: Iterable[str]) -> dict[str, Any]:
    """Drop arrays by name.

    Args:
        arrays: Values by name.
        ignore: Whole names, or patterns of the shell: `*` is any text, dots included, as in
            `*.position_ids`.

    Returns:
        The values whose names match none of them.

    Raises:
        TypeError: If `ignore` is a string.
    """
    if isinstance(ignore, str):
        raise TypeError(
            f"ignore: expected a sequence of names, such as ({ignore!r},), got a string."
        )
    patterns = tuple(ignore)
    return {
        name: array
        for name, array in arrays.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


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
    needed = _MIN_MATCH * len(expected)
    return sorted(p for p in candidates if sum(p + n in found for n in expected) >= needed)
