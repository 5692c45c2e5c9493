"""Explain the first mismatch of two networks."""

from collections.abc import Sequence

from aff_jax.parity.explaining.calls import explain_one_sided
from aff_jax.parity.explaining.evidence import Evidence, JaxNetwork, gather_evidence
from aff_jax.parity.explaining.explanation import explain, explain_fusion
from aff_jax.parity.explaining.field_causes import follows_reference
from aff_jax.parity.recording.recorder import Inputs
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.rows import Pair, Row

__all__ = ["explain_first_mismatch"]


def explain_first_mismatch(
    first: Row | None,
    pairs: Sequence[Pair],
    network: JaxNetwork,
    torch_network: TorchNetwork,
    torch_inputs: Inputs,
) -> str:
    """Explain the first mismatch of two networks.

    If it lies inside an AFF or IAFF that follows another reference, the explanation is the field of
    the fusion.

    Args:
        first: The first row that differs, or None.
        pairs: The compared activations in order.
        network: The JAX network.
        torch_network: The PyTorch network.
        torch_inputs: Inputs of the PyTorch network.

    Returns:
        Sentences, or an empty string if no row differs.
    """
    rows, explanation = [pair.row for pair in pairs], ""
    if first is not None and first.is_one_sided:
        explanation = explain_one_sided(first, rows)
        # A call that one side does not make may be harmless, and the next difference a mistake.
        later = rows[rows.index(first) :]
        first = next((row for row in later if row.differs and not row.is_one_sided), None)
        explanation += " After it: " if first is not None else ""
    if first is None:
        return explanation
    pair = next(pair for pair in pairs if pair.row is first)

    def gather(pair: Pair) -> Evidence:
        """Run both networks again for the inputs of a layer."""
        return gather_evidence(pair, pairs, network, torch_network, torch_inputs)

    fusion = _find_fusion(first.path, pairs, network)
    cause = "" if fusion is None else explain_fusion(first, fusion.row, gather(fusion))
    return explanation + (cause or explain(first, gather(pair)))


def _find_fusion(path: str, pairs: Sequence[Pair], network: JaxNetwork) -> Pair | None:
    """Return the AFF or IAFF around the layer at a path, or None.

    With several calls it is not known in which one the layer ran.
    """
    found = []
    for pair in pairs:
        around = pair.row.path
        is_around = path.startswith(f"{around}/") if around else bool(path)
        layer = network.structure.layers.get(tuple(around.split("/")) if around else ())
        if is_around and layer is not None and follows_reference(layer.module):
            found.append(pair)
    return found[0] if len(found) == 1 and not found[0].row.is_one_sided else None
