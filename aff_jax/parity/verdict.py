"""Put the outcome of a comparison, and its rows, into words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aff_jax.parity.rows import Row

if TYPE_CHECKING:  # `Parity.to_text` calls this module.
    from aff_jax.parity import result

__all__ = ["COLUMNS", "format_row", "outcome", "verdict"]

COLUMNS = (
    "PyTorch",
    "JAX",
    "call",
    "shape",
    "layout",
    "max abs",
    "max rel",
    "allowed",
    "note",
)
"""Titles of the columns of a table of rows."""


def format_row(row: Row) -> tuple[str, ...]:
    """Format one row of a table.

    Args:
        row: The row.

    Returns:
        One text for each of `COLUMNS`. Numbers are empty where nothing could be compared.
    """
    numbers = [row.max_abs, row.max_rel, row.allowed_rel]
    if row.max_rel is None:
        numbers = [None] * 3
    return (
        row.name or "(output)",
        row.path or "(output)",
        str(row.call),
        "x".join(map(str, row.shape)),
        row.layout,
        *("" if number is None else f"{number:.1e}" for number in numbers),
        row.note,
    )


def outcome(parity: result.Parity) -> str:
    """Name the outcome of a comparison.

    Args:
        parity: Result of a comparison.

    Returns:
        "Equal", "Different", or "Undecided" if the outputs were not compared.
    """
    if parity.first_mismatch is not None:
        return "Different"
    return "Equal" if parity.equal else "Undecided"


def verdict(parity: result.Parity) -> str:
    """Describe the outcome of a comparison in a few sentences.

    Args:
        parity: Result of a comparison.

    Returns:
        The sentences. They begin with the outcome and name the first mismatch, if any. They do not
        have the explanation of the comparison.
    """
    first = parity.first_mismatch
    if first is None and not parity.equal:
        return f"Undecided: the outputs were not compared.{_not_compared(parity)}"
    compared = [row for row in parity.rows if row.max_rel is not None]
    terms = f"in {parity.dtype}, {_describe_tolerance(parity)}"
    if first is None:
        worst = max(compared, key=lambda row: row.max_rel or 0.0)
        return (
            f"Equal: {len(compared)} activations {terms}; the largest error is "
            f"{worst.max_rel:.1e}, at {worst.path or 'the output'}.{_advise(parity)}"
            f"{_name_ambiguous(parity)}{_not_compared(parity)}"
        )
    count = sum(row.differs for row in parity.rows)
    why = first.note or f"error {first.max_rel:.1e}"
    where = f"{first.path or 'the output'}, call {first.call} (PyTorch's {first.name or 'output'})"
    return (
        f"Different: {count} of {len(parity.rows)} activations differ {terms}. "
        f"First mismatch: {where}, {why}.{_iteration_of_fusion(first)}{_not_compared(parity)}"
    )


def _describe_tolerance(parity: result.Parity) -> str:
    """Describe what was allowed, with advice where that is much."""
    if parity.tolerance is not None:
        return f"tolerance {parity.tolerance:.0e} of each layer's largest value"
    allowed = max((row.allowed_rel for row in parity.rows), default=0.0)
    noise = f"where rounding explains up to {allowed:.0e} of a layer's largest value"
    if parity.is_too_noisy:
        noise += ", which may hide a mistake: "
        noise += (
            "compare in float64"
            if parity.dtype == "float32"
            else "probably a module computes in a narrower dtype: set its `dtype` to None"
        )
    return noise


def _advise(parity: result.Parity) -> str:
    """Advise float64 after a comparison in float32."""
    if epsilons := parity.hidden_epsilons:
        listed = "; ".join(epsilons[:3]) + ("; ..." if len(epsilons) > 3 else "")
        return f" Float32 cannot show that {listed}: compare in float64."
    if parity.dtype == "float64" or parity.tolerance is not None:
        return ""
    return " A mistake that is smaller than rounding in float32 shows in float64."


def _name_ambiguous(parity: result.Parity) -> str:
    """Name outputs in which a transposition would not be seen."""
    rows = [r for r in parity.rows if r.layout.endswith(", by value") and "same" not in r.layout]
    if not rows:
        return ""
    first = rows[0]
    return (
        f" Axes of {first.path or 'the output'} have equal sizes, so its layout "
        f"({first.layout.partition(',')[0]}) was chosen by its values: compare with other sizes "
        f"to rule out a transposition."
    )


def _not_compared(parity: result.Parity) -> str:
    """List the layers that have no counterpart."""
    if not parity.unmatched:
        return ""
    listed = ", ".join(parity.unmatched[:5]) + (" ..." if len(parity.unmatched) > 5 else "")
    return f" Not compared, as they have no counterpart: {len(parity.unmatched)} ({listed})."


def _iteration_of_fusion(row: Row) -> str:
    """Name the iteration of a fusion that a row belongs to, if it is not the first one."""
    branch = re.fullmatch(r"(.*?)/?(?:local|global)(\d*)(?:/.*)?", row.path)
    weights = re.fullmatch(r"(.*?)/?sigmoid", row.path)
    if branch and (branch[2] or row.call > 1):
        fusion, iteration = branch[1], int(branch[2] or row.call)
    elif weights and row.call > 1:
        fusion, iteration = weights[1], row.call
    else:
        return ""
    return (
        f" This is iteration {iteration} of the fusion {fusion or 'itself'}, where the references "
        f"differ. Check that `reference` is the one that the weights were trained with."
    )
