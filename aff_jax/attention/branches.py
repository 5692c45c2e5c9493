"""Branches of attention: the pointwise bottlenecks that compute the logits of each scale."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax import fast
from aff_jax.attention.attention_module import AttentionModule
from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.input_checks import check_channels
from aff_jax.nn.norm import NormFactory, make_norm
from aff_jax.nn.pooling import global_average

__all__ = [
    "Branch",
    "attention_logits",
    "branch_names",
    "make_branch",
    "make_branches",
    "norm_of",
]


class Branch(nn.Module):
    """A pointwise bottleneck, which computes the logits of one scale of context.

    The output is::

        branch(u) = B(PWConv2(act(B(PWConv1(u)))))

    PWConv1 and PWConv2 are pointwise convolutions with bias, B is batch normalization, and act is
    the paper's delta, a ReLU. The collection `params` has PWConv1 as `reduce`, the first B as
    `reduce_norm`, PWConv2 as `expand`, and the second B as `expand_norm`. The kernels are
    `(in_channels, hidden)` and `(hidden, channels)`.

    Attributes:
        channels: Number of output channels.
        hidden: Number of hidden channels.
        activation: Activation between the two layers.
        use_bias: Give PWConv1 and PWConv2 a bias.
        norm: Function that makes the normalizations, or None for none.
        normalize_logits: Normalize the output too. If False, the second B is left out.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation. None infers it from the input and the parameters.
        param_dtype: Dtype of the parameters.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 3.2, equation 2; `local_att` in
        open-aff's `aff_pytorch/aff_net/fusion.py`.
    """

    channels: int
    hidden: int
    activation: Callable[[Array], Array] = nn.relu
    use_bias: bool = True
    norm: NormFactory | None = BatchNorm
    normalize_logits: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    implementation: str = "auto"

    @nn.compact
    def __call__(
        self, u: Float[Array, "batch *spatial in_channels"], train: bool = False
    ) -> Float[Array, "batch *spatial channels"]:
        """Compute the logits of this scale.

        Args:
            u: What this scale reads, `(batch, *spatial, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array `(batch, *spatial, channels)`.

        Raises:
            ValueError: If `u` has another number of channels than the kernel of `reduce`.
        """
        self._check_channels(u)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        linear = {"use_bias": self.use_bias, "kernel_init": self.kernel_init, **dtypes}
        reduce = nn.Dense(self.hidden, name="reduce", **linear)
        reduce_norm = make_norm(self.norm, name="reduce_norm", **dtypes)
        expand = nn.Dense(self.channels, name="expand", **linear)
        last_norm = self.norm if self.normalize_logits else None
        expand_norm = make_norm(last_norm, name="expand_norm", **dtypes)
        if fast.takes_shortcut(
            "derived_statistics",
            self.implementation,
            train=train,
            dense=expand,
            norm=expand_norm,
            hidden_shape=(*u.shape[:-1], self.hidden),
            channels=self.channels,
        ):
            return fast.branch_with_derived_statistics(
                u,
                reduce,
                reduce_norm,
                self.activation,
                expand,
                expand_norm,
                self.implementation,
            )
        hidden = self.activation(reduce_norm(reduce(u), train=train))
        return expand_norm(expand(hidden), train=train)

    def _check_channels(self, u: Array) -> None:
        """Check the channels here, because Flax's error does not name the likely cause."""
        kernel = self.variables.get("params", {}).get("reduce", {}).get("kernel")
        if kernel is not None:
            # Do not use `unbox`: it would constrain the sharding of a partitioned kernel.
            (array,) = jax.tree.leaves(kernel)
            check_channels("/".join(self.path), u.shape, array.shape[0])


_CONTEXTS: dict[str, Callable[[Array], Array]] = {
    "local": lambda u: u,
    "global": global_average,
}
"""For each scale, the function of the input that a branch reads."""


def attention_logits(
    branches: Sequence[Branch],
    scales: Sequence[str],
    u: Float[Array, "batch *spatial in_channels"],
    train: bool,
) -> Float[Array, "batch *spatial_or_ones channels"]:
    """Compute the logits of attention.

    They are::

        logits = sum over scales of branch(context(u))

    where context(u) is u for "local", and the mean of u over the spatial axes for "global".

    Args:
        branches: One branch for each scale.
        scales: "local" or "global" for each branch.
        u: Input of the attention, `(batch, *spatial, in_channels)`.
        train: Normalize with the statistics of the batch, and update the running ones.

    Returns:
        Array `(batch, *spatial, channels)`. Its spatial axes have size one if all scales are
        global.

    Raises:
        ValueError: If there are no scales, or one is unknown.
    """
    if not scales:
        raise ValueError(
            f"expected at least one of the scales {', '.join(_CONTEXTS)}, got an empty sequence."
        )
    logits = [
        branch(look_up(_CONTEXTS, "scale", scale)(u), train)
        for scale, branch in zip(scales, branches, strict=True)
    ]
    return sum(logits[1:], start=logits[0])


def branch_names(scales: Sequence[str], iteration: int = 1) -> list[str]:
    """Return the names of the branches of one iteration of attention.

    The n-th branch of a scale is `local`, `local2`, `local3` and so on, as in the checkpoints of
    open-aff. `("local", "global")` gives `local`, `global` for the first iteration and `local2`,
    `global2` for the second.

    Args:
        scales: The scales of one iteration.
        iteration: Number of the iteration, from 1.

    Returns:
        One name for each scale.

    Raises:
        ValueError: If `scales` is a string.
    """
    if isinstance(scales, str):
        raise ValueError(
            f"expected a tuple of scales, got the string {scales!r}. One scale is ({scales!r},)."
        )
    names = []
    for position, scale in enumerate(scales):
        in_earlier_iterations = (iteration - 1) * list(scales).count(scale)
        earlier = in_earlier_iterations + list(scales[:position]).count(scale)
        names.append(f"{scale}{earlier + 1}" if earlier else scale)
    return names


def make_branches(module: AttentionModule, channels: int, **options: Any) -> list[Branch]:
    """Make the branches of one iteration of attention, one for each of `module.scales`.

    Args:
        module: As in `make_branch`.
        channels: Number of channels C.
        **options: Further arguments of `make_branch`.

    Returns:
        The branches.

    Raises:
        ValueError: As in `make_branch`.
    """
    positions = range(len(module.scales))
    return [make_branch(module, position, channels, **options) for position in positions]


def make_branch(
    module: AttentionModule,
    position: int,
    channels: int,
    *,
    outputs: int = 1,
    normalize_logits: bool = True,
    iteration: int = 1,
) -> Branch:
    """Make a branch of attention as a submodule of the module whose `__call__` is running.

    Args:
        module: The module. The branch gets the values of its fields.
        position: Position of its scale in `module.scales`.
        channels: Number of channels C.
        outputs: Number of logits for each channel. All are computed from one hidden layer.
        normalize_logits: As in `Branch`.
        iteration: Number of the iteration, from 1.

    Returns:
        The branch.

    Raises:
        ValueError: If the reduction is not positive, the number of hidden channels is not a
            positive integer, or `norm` has another length than `scales`.
    """
    if not module.reduction > 0:
        raise ValueError(f"expected a positive reduction, got {module.reduction}.")
    hidden = max(1, int(channels // module.reduction)) if module.hidden is None else module.hidden
    hidden = hidden(channels) if callable(hidden) else hidden
    if not (hidden >= 1 and hidden == int(hidden)):
        raise ValueError(
            f"expected a positive integer number of hidden channels, got {hidden} for {channels} "
            f"channels. Set `hidden` to a number, such as 16, or to a function that returns one, "
            f"such as `lambda channels: max(channels // 4, 16)`."
        )
    return Branch(
        channels=outputs * channels,
        hidden=int(hidden),
        activation=module.activation,
        use_bias=module.use_bias,
        norm=norm_of(module, position),
        normalize_logits=normalize_logits,
        kernel_init=module.kernel_init,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        implementation=module.implementation,
        name=branch_names(module.scales, iteration)[position],
    )


def norm_of(module: AttentionModule, position: int) -> NormFactory | None:
    """Return the function that makes the norms of a branch.

    Args:
        module: As in `make_branch`.
        position: Position of the scale of the branch in `module.scales`.

    Returns:
        The function; None if the branch has no norms.

    Raises:
        ValueError: If `norm` is a sequence of another length than `scales`.
    """
    if not isinstance(module.norm, list | tuple):
        return cast(NormFactory | None, module.norm)
    if len(module.norm) != len(module.scales):
        raise ValueError(
            f"expected one norm for each of the scales {', '.join(module.scales)}, got "
            f"{len(module.norm)} norms."
        )
    return cast(NormFactory | None, module.norm[position])
