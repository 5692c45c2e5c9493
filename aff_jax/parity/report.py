"""Reports of a comparison: text, JSON, and an HTML page with a plot."""

import dataclasses
import json
import math
import textwrap

from aff_jax.parity.html_page import to_html
from aff_jax.parity.result import Parity
from aff_jax.parity.rows import Row
from aff_jax.parity.verdict import COLUMNS, format_row, verdict

__all__ = ["to_html", "to_json", "to_text", "verdict"]

_WIDTH = 100
"""Columns of a paragraph of the text."""


def to_text(parity: Parity) -> str:
    """Format a table with one line per activation, followed by the verdict and the explanation.

    Lines that begin with "!" differ.

    Args:
        parity: Result of a comparison.

    Returns:
        The text, without a final newline. Empty lines separate table, verdict and explanation.
    """
    table: list[tuple[str, ...]] = [("", *COLUMNS)]
    table += [("!" if row.differs else "", *format_row(row)) for row in parity.rows]
    if not any(row.note for row in parity.rows):
        table = [cells[:-1] for cells in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in table]
    parts = ["\n".join(lines), verdict(parity)]
    if parity.explanation:
        parts.append(
            textwrap.fill(
                parity.explanation, _WIDTH, break_long_words=False, break_on_hyphens=False
            )
        )
    return "\n\n".join(parts)


def to_json(parity: Parity) -> str:
    """Format a comparison as JSON.

    The keys are "equal", "verdict", "explanation", "about" (what was compared), "dtype",
    "tolerance", "first_mismatch" (a row or null), "unmatched", "hidden" and "rows". A row has the
    fields of `Row` and "differs". NaN and infinity are null.

    Args:
        parity: Result of a comparison.

    Returns:
        The JSON text.
    """
    first = parity.first_mismatch

    def as_dict(row: Row) -> dict[str, object]:
        fields = ("max_abs", "max_rel", "allowed")
        numbers = {field: _finite(getattr(row, field)) for field in fields}
        return {**dataclasses.asdict(row), **numbers, "differs": row.differs}

    content = {
        "equal": parity.equal,
        "verdict": verdict(parity),
        "explanation": parity.explanation,
        "about": dict(parity.about),
        "dtype": parity.dtype,
        "tolerance": _finite(parity.tolerance),
        "first_mismatch": None if first is None else as_dict(first),
        "unmatched": list(parity.unmatched),
        "hidden": list(parity.hidden),
        "rows": [as_dict(row) for row in parity.rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _finite(number: float | None) -> float | None:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return number if number is not None and math.isfinite(number) else None
