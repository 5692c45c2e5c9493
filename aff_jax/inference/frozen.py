"""A frozen network: a compiled function of arrays, on one or several devices, in chunks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

__all__ = ["Frozen"]

_CPU_COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""XLA options on a CPU. By default XLA uses vectors of 256 bits, even if the CPU has longer ones.

Longer vectors speed up the elementwise operations between matrix products. The sigmoid of AFF and
what is fused with it take half to two thirds of the time.
"""


class Frozen:
    """A network in evaluation mode, made by `freeze` and called as `frozen(*inputs)`.

    Attributes:
        variables: The folded arrays.
        apply: The pure function `apply(variables, *inputs)`, for use under `jit`, `vmap` or
            `jax.export`.
        donated_position: Position of the donated input, or None.
        devices: Devices that share the batch, or None for the default device.
        chunk_size: Number of examples that a device evaluates at a time, or None for all.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        variables: Mapping[str, Any],
        *,
        donated_position: int | None,
        devices: Sequence[jax.Device] | None,
        chunk_size: int | None,
    ) -> None:
        self.apply = apply
        self.donated_position = donated_position
        self.chunk_size = chunk_size
        self.devices = None if devices is None else tuple(devices)
        run: Callable[..., Any] = self._apply_in_chunks
        self._batch_sharding = self._replicated = None
        if self.devices is not None:
            mesh = Mesh(np.array(self.devices), ("batch",))
            split, whole = PartitionSpec("batch"), PartitionSpec()
            self._batch_sharding = NamedSharding(mesh, split)
            self._replicated = NamedSharding(mesh, whole)

            def run(variables: Mapping[str, Any], *inputs: Any) -> Any:
                specs = (whole, *(split for _ in inputs))
                mapped = jax.shard_map(
                    self._apply_in_chunks, mesh=mesh, in_specs=specs, out_specs=split
                )
                return mapped(variables, *inputs)

        self.variables = jax.device_put(variables, self._replicated)
        self._nested_jit = jax.jit(run)
        on_cpu = (self.devices or jax.devices())[0].platform == "cpu"
        self._jit = jax.jit(
            run,
            donate_argnums=() if donated_position is None else (1 + donated_position,),
            compiler_options=_CPU_COMPILER_OPTIONS if on_cpu else None,
        )

    def __call__(self, *inputs: Any) -> Any:
        """Compute the output of the model in evaluation mode.

        Inside another `jit`, the compiler options of that program apply.

        Args:
            *inputs: Arrays with the dtypes of the example inputs.

        Returns:
            The output of the model.

        Raises:
            ValueError: If `devices` cannot share the batch evenly.
        """
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(inputs)):
            return self._nested_jit(self.variables, *inputs)
        try:
            return self._jit(self.variables, *self._place(inputs))
        except ValueError as error:
            # JAX refuses compiler options in a jit that is called inside another one. If no input
            # is traced, only this error shows that there is an outer jit: JAX deliberately has no
            # public API for it (https://github.com/jax-ml/jax/discussions/20737). A JAX operation
            # returns a tracer there, but trying one would double the overhead of each call.
            if "compiler_options" not in str(error):
                raise
            return self._nested_jit(self.variables, *inputs)

    def compile(self, *inputs: Any) -> Callable[..., Any]:
        """Compile for the shapes and dtypes of these inputs.

        Args:
            *inputs: Arrays or `jax.ShapeDtypeStruct` objects.

        Returns:
            A function of such inputs that never compiles and refuses other shapes and dtypes.

        Raises:
            ValueError: If `devices` cannot share the batch evenly.
        """
        specs = [self._spec(x) for x in inputs]
        compiled = self._jit.lower(self.variables, *specs).compile()

        def call(*inputs: Any) -> Any:
            return compiled(self.variables, *self._place(inputs))

        return call

    def _place(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Shard the inputs over the devices."""
        if self.devices is None:
            return inputs
        for x in inputs:
            self._check_batch_size(x)
        # `device_put` takes a tenth of the time of a small AFF even if the array is already placed.
        return tuple(
            x
            if getattr(x, "sharding", None) == self._batch_sharding
            else jax.device_put(x, self._batch_sharding)
            for x in inputs
        )

    def _spec(self, x: Any) -> jax.ShapeDtypeStruct:
        """Return the shape, dtype and sharding of an input."""
        if self.devices is not None:
            self._check_batch_size(x)
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct(x.shape, dtype, sharding=self._batch_sharding)

    def _check_batch_size(self, x: Any) -> None:
        """Raise ValueError if the devices cannot share the batch evenly."""
        assert self.devices is not None
        if x.shape[0] % len(self.devices):
            raise ValueError(
                f"expected a batch size divisible by the {len(self.devices)} devices, got "
                f"{x.shape[0]}. This is probably the last batch of a dataset: pad it, or evaluate "
                f"it with a network that is frozen for one device."
            )

    def _apply_in_chunks(self, variables: Mapping[str, Any], *inputs: Array) -> Any:
        """Call `apply` on `chunk_size` examples at a time, and on the rest."""
        if self.chunk_size is None or inputs[0].shape[0] <= self.chunk_size:
            return self.apply(variables, *inputs)
        size, batch = self.chunk_size, inputs[0].shape[0]
        end = batch - batch % size
        results = [self._scan_chunks([x[:end] for x in inputs], variables)]
        if end < batch:
            results.append(self.apply(variables, *(x[end:] for x in inputs)))
        return jax.tree.map(
            lambda *arrays: jnp.concatenate(arrays) if arrays[1:] else arrays[0], *results
        )

    def _scan_chunks(self, inputs: Sequence[Array], variables: Mapping[str, Any]) -> Any:
        """Call `apply` on a whole number of chunks, in place if an input is donated."""
        assert self.chunk_size is not None
        size, batch = self.chunk_size, inputs[0].shape[0]

        def apply_at(start: Array, inputs: Sequence[Array]) -> Any:
            return self.apply(
                variables, *(lax.dynamic_slice_in_dim(x, start, size) for x in inputs)
            )

        if self.donated_position is not None:
            position = self.donated_position

            def step(i: Array, buffer: Array) -> Array:
                # Each chunk of the result overwrites the chunk of the donated input it came from.
                current = [*inputs[:position], buffer, *inputs[position + 1 :]]
                chunk = apply_at(i * size, current)
                return lax.dynamic_update_slice_in_dim(buffer, chunk, i * size, 0)

            return lax.fori_loop(0, batch // size, step, inputs[position])
        chunks = lax.map(lambda i: apply_at(i * size, inputs), jnp.arange(batch // size))
        return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), chunks)
