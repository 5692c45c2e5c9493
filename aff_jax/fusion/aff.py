"""Attentional feature fusion: AFF, and IAFF, which reads its context from a first fusion."""

import jax.numpy as jnp
from jaxtyping import Array

from aff_jax.attention.ms_cam import Branch, ContextAttention, branch_names
from aff_jax.fusion.base import Fusion
from aff_jax.lookup import look_up

__all__ = ["AFF", "IAFF"]

COMBINE = {
    "sum": lambda x, y: x + y,
    "concat": lambda x, y: jnp.concatenate([x, y], axis=-1),
}
"""What the attention is fed with at first, by name."""


class AFF(Fusion, ContextAttention, kw_only=True):
    """Attentional feature fusion of two arrays of one shape.

        AFF(x, y) = gain * (x * M(x + y) + y * (1 - M(x + y)))

    M is multi-scale channel attention. In a residual block x is the residual branch and y the
    identity.

    **Fields:** `gain`; `combine`, what M reads: "sum" x + y or "concat" [x, y]; and those of
    `ContextAttention`, as `reduction` r for a hidden width of C // r, and `Fusion`. Open-aff's
    code has a gain of 2, so that the weights of x and y add up to addition's. 3D-Speaker's ERes2Net
    has gain 2, `combine="concat"`, `scales=("local",)`, `activation=nn.silu` and `logit_scale=2`,
    for 1 + tanh(l) = 2 sigmoid(2 l).

    **Sows** M as `fusion_weights` in `intermediates`.

        >>> import aff_jax, jax
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 16))
        >>> aff = aff_jax.AFF()
        >>> variables = aff.init(jax.random.key(1), x, y)
        >>> z, new = aff.apply(variables, x, y, train=True, mutable=["batch_stats"])
        >>> z.shape, new.keys()
        ((4, 8, 8, 16), dict_keys(['batch_stats']))

    Source: paper section 3.3, equation 3; open-aff `aff_pytorch/aff_net/fusion.py`, and issue 28
    there for the gain.
    """

    gain: float = 1.0
    combine: str = "sum"

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        branches = [self.branch(name, x.shape[-1]) for name in branch_names(self.scales)]
        weights = self.weigh(look_up(COMBINE, "combine", self.combine)(x, y), branches, train)
        self.sow("intermediates", "fusion_weights", weights)
        return blend(x, y, weights, self.gain)


class IAFF(Fusion, ContextAttention, kw_only=True):
    """Iterative attentional feature fusion: M is read at a first fusion instead of at the sum.

        z_0 = x + y
        z_i = gain * (x * M_i(z_(i-1)) + y * (1 - M_i(z_(i-1))))
        IAFF(x, y) = z_iterations

    **Fields:** `iterations`, the number of fusions (the paper's is 2; 1 is AFF); `gain`;
    `share_global`, whether every M_i has the global branch of the first, as in open-aff's PyTorch
    port, where the second one exists and is never read; `combine`, what M_1 reads, as in `AFF`;
    and those of `ContextAttention` and `Fusion`.

    **Sows** M_1, M_2 ... as `fusion_weights` in `intermediates`.

    Source: paper section 3.4, equation 4; open-aff `aff_pytorch/aff_net/fusion.py`, and issues 31
    and 37 there for the shared branch.
    """

    gain: float = 1.0
    iterations: int = 2
    share_global: bool = False
    combine: str = "sum"

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        if self.iterations < 1:
            raise ValueError(f"IAFF: expected at least one iteration, got {self.iterations}.")
        z = look_up(COMBINE, "combine", self.combine)(x, y)
        made: dict[str, Branch] = {}
        for reading in range(1, self.iterations + 1):
            names = self._branch_names(reading)
            for name in names:
                if name not in made:
                    made[name] = self.branch(name, x.shape[-1])
            weights = self.weigh(z, [made[name] for name in names], train)
            self.sow("intermediates", "fusion_weights", weights)
            z = blend(x, y, weights, self.gain)
        return z

    def _branch_names(self, reading: int) -> list[str]:
        pairs = zip(branch_names(self.scales), branch_names(self.scales, reading), strict=True)
        return [
            first if self.share_global and scale == "global" else own
            for scale, (first, own) in zip(self.scales, pairs, strict=True)
        ]


def blend(x: Array, y: Array, weights: Array, gain: float) -> Array:
    """What a fusion makes of its weights: gain * (x * weights + y * (1 - weights))."""
    # The gain is no last factor: XLA repeats the product of an array with a number wherever it is
    # read, and on a CPU what it reads as well, so that a step of training computed the fusions of
    # all earlier blocks anew in each of the later ones.
    return gain * y + (gain * weights) * (x - y)
