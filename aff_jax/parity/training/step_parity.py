"""Result of a comparison of training steps, and its text."""

import dataclasses
from collections.abc import Sequence

__all__ = ["KINDS", "StepParity", "StepRow"]

KINDS = ("loss", "gradient", "statistic", "moment", "weight")
"""Kinds of rows, in the order in which a step computes them."""

_UNDECIDED = 1e-2
"""If rounding explains a larger share of an array than this, the array shows no mistake."""


@dataclasses.dataclass(frozen=True)
class StepRow:
    """Comparison of one array of one step.

    Attributes:
        step: Number of the step, starting at 1. 0 is the state before the first step.
        kind: One of "loss", "gradient", "statistic", "moment" and "weight".
        name: Name in the PyTorch module. The name of a moment ends in the name of the state, as
            "conv1.weight.exp_avg". Empty for the loss.
        max_abs: Largest absolute difference.
        max_rel: `max_abs` divided by the largest absolute value of PyTorch's array, or by a share
            of the largest value among similar arrays, whichever is larger.
        allowed_abs: Largest `max_abs` that rounding may explain.
        note: Remark, such as "no gradient in PyTorch".
    """

    step: int
    kind: str
    name: str
    max_abs: float
    max_rel: float
    allowed_abs: float
    note: str = ""

    @property
    def differs(self) -> bool:
        """Return True if the difference exceeds the allowed one or is NaN."""
        return not self.max_abs <= self.allowed_abs

    @property
    def undecided(self) -> bool:
        """Return True if rounding alone changes the array too much to judge it."""
        return (
            not (self.differs or self.note)
            and self.max_abs > 0
            and self.allowed_abs * self.max_rel > _UNDECIDED * self.max_abs
        )


@dataclasses.dataclass(frozen=True)
class StepParity:
    """Result of `compare_step`.

    Attributes:
        rows: Compared arrays of each step, in the order of `KINDS`.
        dtype: Dtype that both networks were trained in.
        steps: Number of steps.
        explanation: Probable causes of the differences, in sentences. Empty if nothing differs.
        notes: Remarks on what was not compared.
        unmatched: Weights with a gradient that have no counterpart on the other side, by name.
        folded: Weights under `weight_norm` and the like, which were trained as plain weights.
    """

    rows: Sequence[StepRow]
    dtype: str
    steps: int
    explanation: str = ""
    notes: Sequence[str] = ()
    unmatched: Sequence[str] = ()
    folded: Sequence[str] = ()

    @property
    def first_mismatch(self) -> StepRow | None:
        """Return the first row that differs, or None."""
        return next((row for row in self.rows if row.differs), None)

    @property
    def equal(self) -> bool:
        """Return True if every weight was compared as PyTorch trains it and no row differs."""
        return self.first_mismatch is None and not self.unmatched and not self.folded

    def largest(self, kind: str) -> StepRow | None:
        """Return the row with the largest relative difference of a kind.

        Args:
            kind: One of `KINDS`.

        Returns:
            The row, or None if no array of this kind was compared.
        """
        rows = [row for row in self.rows if row.kind == kind]
        return max(rows, key=lambda row: row.max_rel, default=None)

    def to_text(self, every: bool = False) -> str:
        """Format the comparison.

        Args:
            every: List all rows, not only the largest difference of each step and kind.

        Returns:
            A table, the verdict, the explanation and the notes. Lines that begin with "!" differ.
        """
        cells: list[tuple[str, ...]] = [("", "step", "kind", "name", "max abs", "max rel", "note")]
        for row in self.rows if every else self._largest_rows():
            mark = "!" if row.differs else ""
            numbers = (f"{row.max_abs:.1e}", f"{row.max_rel:.1e}")
            cells.append((mark, str(row.step), row.kind, row.name, *numbers, row.note))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        return "\n".join([*lines, "", *self._verdict(), *self.notes])

    def _largest_rows(self) -> list[StepRow]:
        """Return the row with the largest difference of each step and kind."""
        groups: dict[tuple[int, str], list[StepRow]] = {}
        for row in self.rows:
            groups.setdefault((row.step, row.kind), []).append(row)
        # A row that differs counts more than one that is only large because of rounding.
        return [max(rows, key=lambda r: (r.differs, r.max_rel)) for rows in groups.values()]

    def _verdict(self) -> list[str]:
        """Return the sentences of the verdict."""
        number = f"{self.steps} step{'s' if self.steps > 1 else ''} in {self.dtype}"
        first = self.first_mismatch
        missing = []
        if self.unmatched:
            names = ", ".join(self.unmatched[:5]) + (" ..." if len(self.unmatched) > 5 else "")
            missing.append(
                f"{len(self.unmatched)} weights with a gradient have no counterpart of their "
                f"name: {names}. Pass `rename`."
            )
        if self.folded:
            names = ", ".join(self.folded[:5]) + (" ..." if len(self.folded) > 5 else "")
            missing.append(
                f"PyTorch computes some weights from others, as weight_norm does from g and v: "
                f"{names}. They were replaced by plain weights, whose gradients, moments and "
                f"updates were compared. Training g and v takes other steps than training the "
                f"weight: remove the norm in PyTorch, as with "
                f"torch.nn.utils.parametrize.remove_parametrizations."
            )
        if first is None and missing:
            return [f"Undecided: {number}, and what was compared agrees.", *missing]
        if first is None:
            kinds = [(kind, self.largest(kind)) for kind in KINDS]
            largest = ", ".join(f"{kind} {row.max_rel:.1e}" for kind, row in kinds if row)
            lines = [f"Equal: {number}. Largest relative differences: {largest}."]
            undecided = [row for row in self.rows if row.undecided]
            if undecided:
                lines.append(
                    f"Rounding alone may change {len(undecided)} of {len(self.rows)} arrays by "
                    f"more than {_UNDECIDED:.0%}, so they decide nothing."
                    + (" Repeat with float64=True." if self.dtype == "float32" else "")
                )
            return lines
        count = sum(row.differs for row in self.rows)
        name = f" of {first.name}" if first.name else ""
        return [
            f"Different: {count} of {len(self.rows)} arrays differ in {number}. The first one is "
            f"the {first.kind}{name}, step {first.step}.",
            self.explanation,
            *missing,
        ]
