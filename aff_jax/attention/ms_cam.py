"""Multi-scale channel attention: local and global context in, one weight per value out."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.fast.derived_statistics import derivation_pays
from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm, NormFactory
from aff_jax.nn.input_checks import check_input
from aff_jax.nn.pooling import global_average

__all__ = ["MSCAM", "Branch", "ContextAttention", "branch_names"]

CONTEXTS: dict[str, Callable[[Array], Array]] = {
    "local": lambda z: z,
    "global": global_average,
}
"""What a branch reads of its input, by scale."""


class Branch(nn.Module):
    """A pointwise bottleneck: one scale of the channel context.

        branch(z) = BN(W2 act(BN(W1 z + b1)) + b2)

    A 1x1 convolution is a dense layer on the last axis, so any number of spatial axes will do.

    **Fields:** `features` out; `hidden` width; `activation`; `norm`; `kernel_init`; `dtype`;
    `param_dtype`.

    Source: paper section 3.2, equation 1; open-aff `aff_pytorch/aff_net/fusion.py`, `local_att`.
    """

    features: int
    hidden: int
    activation: Callable[[Array], Array] = nn.relu
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, z: Float[Array, "batch *spatial in_channels"], train: bool = False
    ) -> Float[Array, "batch *spatial features"]:
        """Logits of this scale."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        weights: dict[str, Any] = {"kernel_init": self.kernel_init, **dtypes}
        reduce = nn.Dense(self.hidden, name="reduce", **weights)
        reduce_norm = self.norm(name="reduce_norm", **dtypes)
        expand = nn.Dense(self.features, name="expand", **weights)
        expand_norm = self.norm(name="expand_norm", **dtypes)
        shape = (*z.shape[:-1], self.features)
        projection = nn.meta.unbox(expand.variables.get("params", {}))
        derive = train and type(expand_norm) is BatchNorm and "kernel" in projection
        if not (derive and derivation_pays((*z.shape[:-1], self.hidden), self.features)):
            z = self.activation(reduce_norm(reduce(z), train=train))
            return expand_norm(expand(z), train=train)
        # The gradient of a kernel is a product over all rows; of one axis it needs no copies.
        z = reduce_norm(reduce(z.reshape(-1, z.shape[-1])), train=train)
        # The widest arrays of a fusion are these logits: the norm goes into the kernel instead.
        z, kernel, bias = promote_dtype(
            self.activation(z), projection["kernel"], projection["bias"], dtype=self.dtype
        )
        return expand_norm(z, train=train, projection=(kernel, bias)).reshape(shape)


class ContextAttention(nn.Module, kw_only=True):
    """The fields that all attentional modules share, and the weights M(z) that they compute.

        M(z) = sigmoid(logit_scale * (sum over scales of branch(context(z))))

    **Fields:** `reduction` r, for a hidden width of max(1, C // r); `scales`, the branches that
    are summed, each "local" (reads z) or "global" (reads z's mean over the spatial axes);
    `activation` in the branches; `logit_scale`; `norm`; `kernel_init`; `dtype` of the computation
    (None: from input and parameters); `param_dtype`.

    **Variables:** a submodule a branch, named by `branch_names`.
    """

    reduction: int = 4
    scales: Sequence[str] = ("local", "global")
    activation: Callable[[Array], Array] = nn.relu
    logit_scale: float = 1.0
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    def branch(self, name: str, channels: int, outputs: int = 1) -> Branch:
        """A submodule of that name; to be called inside a compact method.

        It gives `outputs` logits a channel, all of them from one hidden vector.
        """
        if self.reduction < 1:
            raise ValueError(f"expected a reduction of at least 1, got {self.reduction}.")
        return Branch(
            outputs * channels,
            hidden=max(1, channels // self.reduction),
            activation=self.activation,
            norm=self.norm,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def weigh(
        self, z: Float[Array, "batch *spatial _"], branches: Sequence[Branch], train: bool
    ) -> Float[Array, "batch *spatial channels"]:
        """M(z), in (0, 1); spatial axes are of size one where every scale is global."""
        logits = self.logits(z, branches, train)
        # In training the spelt-out one was measured to be no faster.
        return nn.sigmoid(logits) if train else sigmoid(logits)

    def logits(
        self, z: Float[Array, "batch *spatial _"], branches: Sequence[Branch], train: bool
    ) -> Float[Array, "batch *spatial features"]:
        """What M(z) is the sigmoid of."""
        if not branches:
            raise ValueError(
                f"expected at least one of the scales {', '.join(CONTEXTS)}, got none."
            )
        logits = [
            branch(look_up(CONTEXTS, "scale", scale)(z), train)
            for scale, branch in zip(self.scales, branches, strict=True)
        ]
        return self.logit_scale * sum(logits[1:], start=logits[0])


@jax.custom_jvp
def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-logits)), spelt out.

    XLA runs its own logistic function, and all that is fused with it, in one thread on a CPU.
    """
    return 1 / (1 + jnp.exp(-logits))


# The derivative of the spelt-out function is infinity over infinity at large negative logits.
sigmoid.defjvps(lambda tangent, y, _: tangent * y * (1 - y))


def branch_names(scales: Sequence[str], reading: int = 1) -> list[str]:
    """Names of the branches for the `reading`-th time that one module reads context.

    The n-th branch of a scale is `local`, `local2`, `local3` ..., as in the references'
    checkpoints: `("local", "global")` gives `local`, `global` and, read again, `local2`, `global2`.
    """
    if isinstance(scales, str):
        raise ValueError(f"expected a tuple of scales, got a string: ({scales!r},) is one scale.")
    names = []
    for position, scale in enumerate(scales):
        earlier = (reading - 1) * list(scales).count(scale) + list(scales[:position]).count(scale)
        names.append(f"{scale}{earlier + 1}" if earlier else scale)
    return names


class MSCAM(ContextAttention, kw_only=True):
    """Multi-scale channel attention module.

        MSCAM(x) = x * M(x)
        M(x)     = sigmoid(local(x) + global(x))

    **Fields:** those of `ContextAttention`. **Sows** M(x) as `fusion_weights` in `intermediates`.

    Source: paper section 3.2, equations 1 and 2.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *spatial channels"], train: bool = False
    ) -> Float[Array, "batch *spatial channels"]:
        """Weigh `x` by its own context.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: `x` has fewer than two axes; or see `BatchNorm` for `train`.
        """
        check_input(self, x=x)
        (x,) = promote_dtype(x, dtype=self.dtype)
        branches = [self.branch(name, x.shape[-1]) for name in branch_names(self.scales)]
        weights = self.weigh(x, branches, train)
        self.sow("intermediates", "fusion_weights", weights)
        return x * weights
