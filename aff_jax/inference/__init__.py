"""Networks for evaluation: frozen networks with folded batch norms, and StableHLO files."""

from aff_jax.inference.freezing import freeze
from aff_jax.inference.frozen import Frozen
from aff_jax.inference.stablehlo import save_stablehlo

__all__ = ["Frozen", "freeze", "save_stablehlo"]
