"""Result of a comparison of activations."""

import dataclasses
from collections.abc import Mapping, Sequence

from aff_jax.parity.rows import Row

__all__ = ["Parity"]

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
        return self.tolerance is None and any(row.allowed > _TOO_NOISY for row in self.rows)
