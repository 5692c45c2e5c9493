"""The type of modules with attention, for annotations."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from flax.typing import Dtype, Initializer
from jaxtyping import Array

from aff_jax.nn.norm import NormFactory

__all__ = ["AttentionModule"]


@runtime_checkable  # for run-time type checkers
class AttentionModule(Protocol):
    """A module with attention: `MSCAM`, or a fusion with the same fields. `MSCAM` explains them.

    The functions of this package read these fields of the module whose `__call__` is running.
    """

    reduction: float
    hidden: int | Callable[[int], int] | None
    scales: Sequence[str]
    logit_scale: float
    use_bias: bool
    norm: NormFactory | Sequence[NormFactory | None] | None
    kernel_init: Initializer
    dtype: Dtype | None
    param_dtype: Dtype
    implementation: str

    @property
    def activation(self) -> Callable[[Array], Array]:
        """Activation; a property, since type checkers take a function in a class for a method."""

    def sow(self, col: str, name: str, value: Any) -> Any:
        """Store a value in a collection, as `flax.linen.Module.sow` does.

        Args:
            col: Name of the collection.
            name: Name of the value.
            value: The value.

        Returns:
            Whether it was stored.
        """
