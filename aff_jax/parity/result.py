"""Result of a comparison of activations."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping, Sequence

from aff_jax.parity import html_page, verdict
from aff_jax.parity.rows import Row

__all__ = ["Parity"]

_WIDTH = 100
"""Columns of a paragraph of the text."""

_TOO_NOISY = 1e-3
"""Above this noise, a comparison cannot detect typical mistakes."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Result of a comparison.

    Attributes:
        rows: Compared activations in the order of the JAX network, the output last.
        dtype: Dtype that both networks ran in.
        tolerance: Largest allowed `max_rel` of a row, or None if it was measured for each row.
        unmatched: Layers with weights of either network, and outputs of PyTorch, that have no
            counterpart in the other one. They were not compared.
        explanation: Why the first mismatch differs, in sentences. Empty if the networks are equal.
        hidden_epsilons: Norms with another epsilon than PyTorch's that agree within the rounding of
            float32.
        about: What was compared: modules, inputs and versions, by title.
    """

    rows: Sequence[Row]
    dtype: str
    tolerance: float | None = None
    unmatched: Sequence[str] = ()
    explanation: str = ""
    hidden_epsilons: Sequence[str] = ()
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def first_mismatch(self) -> Row | None:
        """Return the first row that differs, or None.

        A call that only one of the networks made counts if the next compared activation differs.
        An array that only one of the networks returns always counts.
        """
        first = None
        for row in self.rows:
            if row.is_one_sided and row.is_output:
                return first or row
            if row.is_one_sided:
                first = first or row
            elif row.differs:
                return first or row
            else:
                first = None
        return None

    @property
    def equal(self) -> bool:
        """Return True if the outputs were compared and no compared activation differs."""
        compared = any(row.is_output and not row.is_one_sided for row in self.rows)
        return compared and self.first_mismatch is None

    @property
    def is_too_noisy(self) -> bool:
        """Return True if rounding may hide mistakes."""
        return self.tolerance is None and any(row.allowed_rel > _TOO_NOISY for row in self.rows)

    @property
    def verdict(self) -> str:
        """Return the outcome in a few sentences, with the first mismatch, if any."""
        return verdict.verdict(self)

    def to_text(self) -> str:
        """Format a table with one line per activation, followed by the verdict and the explanation.

        Lines that begin with "!" differ.

        Returns:
            The text, without a final newline. Empty lines separate table, verdict and explanation.
        """
        table: list[tuple[str, ...]] = [("", *verdict.COLUMNS)]
        table += [("!" if row.differs else "", *verdict.format_row(row)) for row in self.rows]
        if not any(row.note for row in self.rows):
            table = [cells[:-1] for cells in table]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
        parts = ["\n".join(lines), self.verdict]
        if self.explanation:
            parts.append(
                textwrap.fill(
                    self.explanation, _WIDTH, break_long_words=False, break_on_hyphens=False
                )
            )
        return "\n\n".join(parts)

    def to_json(self) -> str:
        """Format the comparison as JSON.

        The keys are "equal", "verdict", "explanation", "about" (what was compared), "dtype",
        "tolerance", "first_mismatch" (a row or null), "unmatched", "hidden_epsilons" and "rows". A
        row has the fields of `Row` and "differs". NaN and infinity are null.

        Returns:
            The JSON text.
        """
        first = self.first_mismatch
        content = {
            "equal": self.equal,
            "verdict": self.verdict,
            "explanation": self.explanation,
            "about": dict(self.about),
            "dtype": self.dtype,
            "tolerance": _finite(self.tolerance),
            "first_mismatch": None if first is None else _as_dict(first),
            "unmatched": list(self.unmatched),
            "hidden_epsilons": list(self.hidden_epsilons),
            "rows": [_as_dict(row) for row in self.rows],
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def to_html(self, title: str = "Parity") -> str:
        """Format the comparison as a self-contained HTML page with a plot and a table.

        The page has the verdict, what was compared, the explanation, a plot of the relative errors,
        and one row for each activation, by block. The plot needs matplotlib; without it, the page
        has a note instead.

        Args:
            title: Title of the page.

        Returns:
            The page.
        """
        return html_page.format_page(self, title)


def _as_dict(row: Row) -> dict[str, object]:
    """Return the fields of a row for JSON."""
    fields = ("max_abs", "max_rel", "allowed_rel")
    numbers = {field: _finite(getattr(row, field)) for field in fields}
    return {**dataclasses.asdict(row), **numbers, "differs": row.differs}


def _finite(number: float | None) -> float | None:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return number if number is not None and math.isfinite(number) else None
