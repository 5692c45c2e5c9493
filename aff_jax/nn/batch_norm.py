"""Batch norm with its state in the open, as the references compute it."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jax import lax
from jaxtyping import Array, Float

from aff_jax.fast.derived_statistics import batch_moments, projected_moments
from aff_jax.nn.input_checks import check_floating

__all__ = ["BatchNorm", "NormFactory"]

NormFactory = Callable[..., nn.Module]
"""Makes a normalisation that is called as `(x, train=train)`.

It is given `name`, `dtype`, `param_dtype` and, here and there, `use_scale`, `use_bias` and
`scale_init`: `BatchNorm`, or a `functools.partial` of it.
"""


class BatchNorm(nn.Module):
    """Batch normalisation over every axis but the last.

        y = (x - mean) / sqrt(var + epsilon) * scale + bias

    In training `mean` and `var` are those of the batch and the running statistics move towards
    them, `running <- momentum * running + (1 - momentum) * batch`; in evaluation they are the
    running ones. The variance is computed in two passes and at least in float32.

    It differs from `flax.linen.BatchNorm` in three ways that matter when networks are compared:
    `unbiased_variance` keeps n / (n - 1) times the batch's variance as PyTorch does, a batch with
    one value per channel is an error instead of a silent zero, and so is a forgotten `mutable`.

    **Fields:** `momentum`, the decay of the running statistics (PyTorch's 0.1 is 0.9 here);
    `epsilon`; `axis_name`, the mapped axis over which statistics are averaged, so that all devices
    normalise with those of the global batch; `unbiased_variance`; `use_scale`, `use_bias`;
    `scale_init`; `dtype` of the result (None: from input and parameters); `param_dtype`.

    **Variables:** `params` scale, bias and `batch_stats` mean, var, each `(channels,)`.

    Source: Ioffe and Szegedy, 2015, algorithms 1 and 2.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    unbiased_variance: bool = False
    use_scale: bool = True
    use_bias: bool = True
    scale_init: Initializer = nn.initializers.ones
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial inputs"],
        train: bool = False,
        projection: tuple[Array, Array] | None = None,
    ) -> Float[Array, "batch *spatial channels"]:
        """Normalise `x`; with `projection`, a kernel and a bias, normalise x @ kernel + bias.

        In training a projection is not formed before it is normalised: its moments are derived from
        those of `x`, and the normalisation goes into the kernel.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: `train` without `mutable=["batch_stats"]`, or with one value per channel.
        """
        check_floating(self, x=x)
        x = jnp.asarray(x)  # NumPy's float64 becomes float32 here, unless x64 is on
        if projection is not None and not train:
            kernel, offset = projection
            x, projection = x @ kernel + offset, None
        channels = (x.shape[-1] if projection is None else len(projection[1]),)
        stat_dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, stat_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, stat_dtype)

        # bfloat16 and float16 hold too few digits to sum a batch in.
        wide_dtype = jnp.promote_types(x.dtype, stat_dtype)
        wide = x.astype(wide_dtype)
        if projection is not None:
            kernel, offset = (part.astype(wide_dtype) for part in projection)
            mean, var = projected_moments(wide, kernel, self._mapped_axis())
            self._move(x.shape, mean + offset, var, running_mean, running_var)
        elif train:
            mean, var = batch_moments(wide, self._mapped_axis())
            self._move(x.shape, mean, var, running_mean, running_var)
        else:
            # Widened first, so that double precision in is double precision throughout.
            mean, var = (v.value.astype(wide_dtype) for v in (running_mean, running_var))

        scale = lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            scale = scale * self.param("scale", self.scale_init, channels, self.param_dtype)
        bias: Array | float = 0.0
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        dtype = self.dtype or jnp.result_type(x.dtype, self.param_dtype)
        if projection is None:
            y = (wide - mean) * scale
            return (y + bias if self.use_bias else y).astype(dtype)
        # The projection's own offset moves its mean and nothing else.
        y = x @ (kernel * scale).astype(x.dtype)
        return (y + (bias - mean * scale).astype(x.dtype)).astype(dtype)

    def _mapped_axis(self) -> str | None:
        """`axis_name`; while a module is initialised no axis is mapped, and any batch will do."""
        return None if self.is_initializing() else self.axis_name

    def _move(
        self,
        shape: tuple[int, ...],
        mean: Array,
        var: Array,
        running_mean: nn.Variable,
        running_var: nn.Variable,
    ) -> None:
        """Move the running statistics towards those of a batch of that shape."""
        if self.is_initializing():
            return
        count = math.prod(shape[:-1])
        if self.axis_name is not None:
            count *= lax.psum(1, self.axis_name)
        self._check_training(shape, count)
        kept = var * (count / (count - 1)) if self.unbiased_variance else var
        for running, batch in ((running_mean, mean), (running_var, kept)):
            moved = self.momentum * running.value + (1 - self.momentum) * batch
            running.value = moved.astype(running.value.dtype)

    def _check_training(self, shape: tuple[int, ...], count: int) -> None:
        where = "/".join(self.path) or type(self).__name__
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                f"{where}: train=True computes new running statistics, but the collection "
                f"'batch_stats' is not mutable, so they would be lost. Call "
                f"`y, new = module.apply(variables, ..., train=True, mutable=['batch_stats'])` "
                f"and keep new['batch_stats']; or leave train=False to use the statistics as "
                f"they are."
            )
        if count == 1:
            raise ValueError(
                f"{where}: expected more than one value per channel in training, got an input of "
                f"shape {shape}, whose variance is zero whatever it holds. Probably a batch of "
                f"one reached a globally pooled branch. Use a batch of at least two, "
                f"train=False, or a norm with an `axis_name` that spans several devices."
            )
