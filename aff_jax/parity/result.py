"""Result of a comparison of activations."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence

from aff_jax.parity.rows import Row
from aff_jax.parity.verdict import COLUMNS, format_row, verdict

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
        hidden: Norms with another epsilon than PyTorch's that agree within the rounding of float32.
        about: What was compared: modules, inputs and versions, by title.
    """

    rows: Sequence[Row]
    dtype: str
    tolerance: float | None = None
    unmatched: Sequence[str] = ()
    explanation: str = ""
    hidden: Sequence[str] = ()
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

    def to_text(self) -> str:
        """Format a table with one line per activation, followed by the verdict and the explanation.

        Lines that begin with "!" differ.

        Returns:
            The text, without a final newline. Empty lines separate table, verdict and explanation.
        """
        table: list[tuple[str, ...]] = [("", *COLUMNS)]
        table += [("!" if row.differs else "", *format_row(row)) for row in self.rows]
        if not any(row.note for row in self.rows):
            table = [cells[:-1] for cells in table]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
        parts = ["\n".join(lines), verdict(self)]
        if self.explanation:
            parts.append(
                textwrap.fill(
                    self.explanation, _WIDTH, break_long_words=False, break_on_hyphens=False
                )
            )
        return "\n\n".join(parts)
