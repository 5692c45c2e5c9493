"""Reports of a comparison: text, JSON, and an HTML page with a plot."""

import dataclasses
import json
import math

from aff_jax.parity.html_page import to_html
from aff_jax.parity.result import Parity
from aff_jax.parity.rows import Row
from aff_jax.parity.verdict import verdict

__all__ = ["to_html", "to_json", "to_text", "verdict"]


def to_text(parity: Parity) -> str:
    """Format a comparison as text, as `Parity.to_text` does.

    Args:
        parity: Result of a comparison.

    Returns:
        The table, the verdict and the explanation.
    """
    return parity.to_text()


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
        fields = ("max_abs", "max_rel", "allowed_rel")
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
