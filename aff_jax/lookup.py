"""Tables of names: look one up, and make what it stands for, with errors that help."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["accepted_fields", "construct", "look_up", "unknown_name"]

T = TypeVar("T")


def unknown_name(what: str, given: object, known: Iterable[str]) -> str:
    """The message for a name that nothing stands for: the nearest ones first, then all."""
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(given).lower(), lower, n=3, cutoff=0.5)
    near = [lower[name] for name in close]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {what} {given!r}.{hint} Known: {', '.join(names) or 'none'}."


def look_up(table: Mapping[str, T], what: str, name: str) -> T:
    """`table[name]`.

    Raises:
        ValueError: the table has no such name; offers the nearest and lists all.
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
    """`constructor(**fields)`, with those `defaults` that it knows and `fields` leaves out.

    Raises:
        ValueError: `fields` names one that the constructor does not have.
    """
    known = _parameters(constructor)
    for field in fields:
        if known is not None and field not in known:
            raise ValueError(unknown_name(f"field of {what}:", field, known))
    offered = accepted_fields(constructor, defaults or {})
    return constructor(**{**offered, **fields})


def accepted_fields(constructor: Callable[..., Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `fields` that `constructor` has a parameter for and no value yet."""
    known = _parameters(constructor)
    given = getattr(constructor, "keywords", {})
    return {
        name: value
        for name, value in fields.items()
        if name not in given and (known is None or name in known)
    }


def _parameters(constructor: Callable[..., Any]) -> set[str] | None:
    """Names that a constructor takes by keyword; None where it takes any."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named - {"parent"}  # linen's own, and never to be given
