"""Lookup in tables of names, with errors that list the known names."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["accepted_fields", "construct", "look_up", "unknown_name"]

T = TypeVar("T")


def unknown_name(what: str, given: object, known: Iterable[str]) -> str:
    """Return an error message that suggests the closest known names and lists all of them.

    Args:
        what: Kind of the name, such as "fusion".
        given: The unknown name.
        known: The known names.

    Returns:
        The message.
    """
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(given).lower(), lower, n=3, cutoff=0.5)
    near = [lower[name] for name in close]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {what} {given!r}.{hint} Known: {', '.join(names) or 'none'}."


def look_up(table: Mapping[str, T], what: str, name: str) -> T:
    """Return the value of a name in a table.

    Args:
        table: Values by name.
        what: Kind of the name, such as "fusion", for the message.
        name: Name to look up.

    Returns:
        The value `table[name]`.

    Raises:
        ValueError: If the table does not have the name. The message lists the names it has.
    """
    if name not in table:
        raise ValueError(unknown_name(what, name, table))
    return table[name]


def construct(
    what: str,
    constructor: Callable[..., T],
    fields: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> T:
    """Call a constructor with fields, and with the defaults that it accepts.

    Args:
        what: Description of the result, for the message.
        constructor: Class or function to call.
        fields: Arguments by name.
        defaults: Arguments for parameters that the constructor has and `fields` omits. Others are
            ignored.

    Returns:
        The result of the constructor.

    Raises:
        ValueError: If the constructor has no parameter for one of `fields`. The message lists those
            it has.
    """
    known = _parameters(constructor)
    for field in fields:
        if known is not None and field not in known:
            raise ValueError(unknown_name(f"field of {what}:", field, known))
    accepted = accepted_fields(constructor, defaults or {})
    return constructor(**{**accepted, **fields})


def accepted_fields(constructor: Callable[..., Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Select the fields that a constructor accepts.

    Args:
        constructor: Class, function or `functools.partial`.
        fields: Arguments by name.

    Returns:
        The `fields` that are parameters of the constructor, without those that a
        `functools.partial` has already set.
    """
    known = _parameters(constructor)
    already_set = getattr(constructor, "keywords", {})
    return {
        name: value
        for name, value in fields.items()
        if name not in already_set and (known is None or name in known)
    }


def _parameters(constructor: Callable[..., Any]) -> set[str] | None:
    """Return the names of keyword parameters, or None if the constructor takes any."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named - {"parent"}  # Every linen module has it, and only linen sets it.
