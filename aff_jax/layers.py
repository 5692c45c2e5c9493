"""What every module here is built of: convolutions, poolings, and what gradients compute anew."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.batch_norm import BatchNorm, NormFactory
from aff_jax.tables import look_up

__all__ = [
    "ConvNorm",
    "apply_block",
    "average_pool",
    "convolution",
    "global_average",
    "logits_dtype",
    "rematerialize",
]

POLICIES = {
    name: getattr(jax.checkpoint_policies, name)
    for name in ("dots_saveable", "dots_with_no_batch_dims_saveable")
}
"""What `remat` may be told to keep, by JAX's names: the results of products."""


class ConvNorm(nn.Module):
    """A convolution without bias, then a norm, then an optional activation.

        y = activation(norm(W * x))

    **Fields:** `features` out; `kernel` size; `strides`; `groups`; `activation` or None; `norm`;
    `kernel_init`; `dtype`; `param_dtype`.
    """

    features: int
    kernel: int = 3
    strides: int = 1
    groups: int = 1
    activation: Callable[[Array], Array] | None = None
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width features"]:
        """Apply to `x`; height and width are divided by `strides` and rounded up."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = convolution(
            self.features,
            self.kernel,
            self.strides,
            self.groups,
            kernel_init=self.kernel_init,
            name="conv",
            **dtypes,
        )(x)
        x = self.norm(name="norm", **dtypes)(x, train=train)
        return x if self.activation is None else self.activation(x)


def convolution(
    features: int, kernel: int = 3, strides: int = 1, groups: int = 1, **fields: Any
) -> nn.Conv:
    """A two-dimensional convolution without bias, padded by kernel // 2 on every side.

    PyTorch and MXNet pad so; XLA's "SAME" would pad a strided convolution on one side only.
    `fields` are further ones of `flax.linen.Conv`.
    """
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=strides,
        padding=kernel // 2,
        feature_group_count=groups,
        use_bias=False,
        **fields,
    )


def rematerialize(function: Callable[..., Any], remat: bool | str) -> Callable[..., Any]:
    """`function` of a module and arrays; with `remat` its insides are not kept for the gradient.

    They are computed a second time when they are needed: all with True, and but for the results of
    products with "dots_saveable" and "dots_with_no_batch_dims_saveable". Names, variables and
    results are the same.

    Raises:
        ValueError: another name.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    if not remat:
        return function
    policy = None if remat is True else look_up(POLICIES, "remat policy", remat)
    lean: Callable[..., Any] = nn.remat(function, policy=policy)
    return lean


def apply_block(block: nn.Module, x: Array, train: bool, remat: bool | str) -> Array:
    """`block(x, train)`, its activations kept for the gradient or not, as `rematerialize` does."""

    def apply(block: nn.Module, x: Array) -> Any:
        return block(x, train)

    result: Array = rematerialize(apply, remat)(block, x)
    return result


def logits_dtype(dtype: Dtype | None) -> Dtype | None:
    """The dtype of the layer that gives logits: `dtype`, and at least float32; None stays None.

    Logits in bfloat16, of eight bits, are often equal, and which is largest is then left to chance.
    """
    return None if dtype is None else jnp.promote_types(dtype, jnp.float32)


def global_average(
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch *ones channels"]:
    """Mean over the spatial axes, kept as axes of size one; `x` itself where it has none."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)


def average_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch out_height out_width channels"]:
    """Average over windows of `window` x `window` with the same stride, rounding sizes up.

    A window that hangs over the edge averages what it covers: `ceil_mode=True,
    count_include_pad=False` in PyTorch's and MXNet's words.
    """
    if window == 1:
        return x
    excess = [(0, -size % window) for size in x.shape[1:3]]
    shape = (window, window)
    pooled = nn.avg_pool(x, shape, strides=shape, padding=excess, count_include_pad=False)
    return pooled.astype(x.dtype)  # Flax divides by a count in single precision
