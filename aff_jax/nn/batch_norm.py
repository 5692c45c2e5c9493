"""Batch normalization with explicit state, as PyTorch and MXNet compute it."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jax import lax
from jaxtyping import Array, Float

from aff_jax.nn.checked_module import CheckedModule
from aff_jax.nn.input_checks import check_channels, check_floating

__all__ = ["BatchNorm", "along_channels", "average_over_axis", "batch_moments"]


class BatchNorm(CheckedModule):
    """Batch normalization over all axes except the last.

    The output is::

        y = (x - mean) / sqrt(var + epsilon) * scale + bias

    In training, `mean` and `var` are computed from the batch and update the running statistics::

        running <- momentum * running + (1 - momentum) * batch

    In evaluation, `mean` and `var` are the running statistics. The variance of a batch is computed
    in two passes and in float32 or wider (or derived, by a shortcut of `aff_jax.fast`).

    These differences from `flax.linen.BatchNorm` matter when networks are compared. The momentum
    is 0.9 by default, and Flax's is 0.99. Flax computes the variance in one pass by default.
    `unbiased_variance` averages n / (n - 1) times the variance of the batch, as in PyTorch. A batch
    with one value per channel, and training without `mutable=["batch_stats"]`, are errors. The
    argument `train` replaces `use_running_average`.

    The collection `params` has `scale` and `bias`, and `batch_stats` has `mean` and `var`, each of
    shape `(channels,)`.

    Attributes:
        momentum: Decay of the running statistics. PyTorch's momentum of 0.1 is 0.9 here.
        epsilon: Added to the variance.
        axis_name: Mapped axis over which the statistics are averaged, so that all devices
            normalize with the statistics of the global batch.
        unbiased_variance: Keep the unbiased variance as running variance.
        use_scale: Multiply by a learned scale.
        use_bias: Add a learned bias.
        scale_init: Initializer of the scale.
        dtype: Dtype of the output. None infers it from the input and the parameters.
        param_dtype: Dtype of the parameters. Statistics have it too, and are at least float32.

    References:
        Ioffe and Szegedy, Batch Normalization, 2015, algorithms 1 and 2.
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
        self, x: Float[Array, "batch *spatial channels"], train: bool = False
    ) -> Float[Array, "batch *spatial channels"]:
        """Normalize `x`.

        Args:
            x: Floating-point array `(batch, *spatial, channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            The normalized array, of the shape of `x`.

        Raises:
            TypeError: If `x` is not floating point.
            ValueError: If `x` has another number of channels than the running statistics; or, with
                `train`, if `batch_stats` is not mutable or the batch has fewer than two values per
                channel.
        """
        check_floating(self, x=x)
        x = jnp.asarray(x)  # NumPy's float64 becomes float32 here, unless x64 is enabled
        channels = x.shape[-1:]
        stats_dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, stats_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, stats_dtype)
        # Flax checks the shapes of scale and bias. Without them, a wrong number of channels would
        # broadcast silently.
        check_channels(self._where(), x.shape, len(running_mean.value))

        # bfloat16 has 8 significant bits, so a sum over many positions would lose small terms.
        wide = x.astype(jnp.promote_types(x.dtype, stats_dtype))
        if train:
            mean, var = batch_moments(wide, self.statistics_axis())
            self.update_running_statistics(mean, var, x.shape)
        else:
            mean, var = (v.value.astype(wide.dtype) for v in (running_mean, running_var))

        factor = lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            factor = factor * self.param("scale", self.scale_init, channels, self.param_dtype)
        y = (wide - along_channels(mean, x.ndim)) * along_channels(factor, x.ndim)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
            y = y + along_channels(bias, x.ndim)
        return y.astype(self.dtype or jnp.result_type(x.dtype, self.param_dtype))

    def statistics_axis(self) -> str | None:
        """Return the mapped axis to average over, or None in `init`, which runs on one device."""
        return None if self.is_initializing() else self.axis_name

    def update_running_statistics(
        self,
        mean: Float[Array, " channels"],
        var: Float[Array, " channels"],
        shape: tuple[int, ...],
    ) -> None:
        """Move the running statistics towards the statistics of a batch.

        Nothing happens in `init`, which creates the variables.

        Args:
            mean: Mean of the batch for each channel.
            var: Biased variance of the batch for each channel.
            shape: Shape of the batch on this device.

        Raises:
            ValueError: If `batch_stats` is not mutable, or the batch has fewer than two values
                per channel.
        """
        if self.is_initializing():
            return
        count = math.prod(shape[:-1])
        if self.axis_name is not None:
            count *= lax.psum(1, self.axis_name)
        self._check_training(shape, count)
        kept = var * (count / (count - 1)) if self.unbiased_variance else var
        for name, batch in (("mean", mean), ("var", kept)):
            running: Array = self.get_variable("batch_stats", name)
            moved = self.momentum * running + (1 - self.momentum) * batch
            self.put_variable("batch_stats", name, moved.astype(running.dtype))

    def _where(self) -> str:
        return "/".join(self.path) or type(self).__name__

    def _check_training(self, shape: tuple[int, ...], count: int) -> None:
        """Raise an error if running statistics cannot be computed or would be lost."""
        where = self._where()
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                f"{where}: train=True computes new running statistics, but the collection "
                f"'batch_stats' is not mutable, so they would be lost. Call "
                f"`y, updates = module.apply(variables, ..., train=True, "
                f"mutable=['batch_stats'])` and keep updates['batch_stats'], or call with "
                f"train=False to normalize with the running statistics."
            )
        if count == 0:
            raise ValueError(
                f"{where}: expected a batch of at least two examples in training, got an empty "
                f"input of shape {shape}, which has no mean. Probably the last batch of a dataset "
                f"has no examples left: skip it."
            )
        if count == 1:
            raise ValueError(
                f"{where}: expected more than one value per channel in training, got an input of "
                f"shape {shape}, whose variance is always zero. Probably a batch of one reached a "
                f"globally pooled branch. Use a batch of at least two, train=False, or a norm "
                f"with an `axis_name` that spans several devices."
            )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def batch_moments(
    x: Float[Array, "*batch channels"], axis_name: str | None = None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Compute mean and biased variance over all axes except the last, in two passes.

    They and their derivatives are::

        mean  = E[x],   var  = E[(x - mean)^2]
        dmean = E[dx],  dvar = E[2 (x - mean) dx]

    Args:
        x: Array `(*batch, channels)`.
        axis_name: Mapped axis over which the expectation is taken as well.

    Returns:
        Mean and variance, each `(channels,)`.
    """
    axes = tuple(range(x.ndim - 1))
    mean = average_over_axis(jnp.mean(x, axes), axis_name)
    centered = x - along_channels(mean, x.ndim)
    return mean, average_over_axis(jnp.mean(jnp.square(centered), axes), axis_name)


# Autodiff would add the derivative of var with respect to mean, which is zero, in a pass over x.
@batch_moments.defjvp
def _batch_moments_jvp(
    axis_name: str | None, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (x,), (dx,) = primals, tangents
    axes = tuple(range(x.ndim - 1))
    mean, var = batch_moments(x, axis_name)
    centered = x - along_channels(mean, x.ndim)
    dmean = average_over_axis(jnp.mean(dx, axes), axis_name)
    dvar = average_over_axis(jnp.mean(2 * centered * dx, axes), axis_name)
    return (mean, var), (dmean, dvar)


def along_channels(vector: Float[Array, " channels"], ndim: int) -> Float[Array, "*ones channels"]:
    """Give a vector of one value per channel `ndim` axes, all but the last of size one.

    JAX can be set to refuse operations on arrays with different numbers of axes:
    https://docs.jax.dev/en/latest/rank_promotion_warning.html

    Args:
        vector: Array `(channels,)`.
        ndim: Number of axes of the result.

    Returns:
        Array `(1, ..., 1, channels)`.
    """
    return vector.reshape((1,) * (ndim - 1) + vector.shape)


def average_over_axis(value: Float[Array, "..."], axis_name: str | None) -> Float[Array, "..."]:
    """Average over the devices of a mapped axis.

    Args:
        value: Array of any shape.
        axis_name: Name of the axis. None returns `value` unchanged.

    Returns:
        Array of the shape of `value`.
    """
    return value if axis_name is None else lax.pmean(value, axis_name)
