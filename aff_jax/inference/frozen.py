"""What a frozen network is: a compiled function of arrays, on one device or several, in chunks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

__all__ = ["Frozen"]

CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""XLA's options on a CPU: by itself it takes vectors of 256 bits where the CPU has longer ones.

Longer ones make what lies between the products faster: the logistic function of AFF, and what is
fused with it, takes half to two thirds of the time.
"""


class Frozen:
    """A network in evaluation, as `freeze` makes it: call it with what the model is called with.

    **Attributes:** `variables`, the folded arrays; `apply(variables, *inputs)`, the pure function
    that it is, to be used under `jit`, `vmap` or `jax.export`; `donate`, the position of the input
    whose memory the result takes, or None; `devices` and `chunk_size` as given.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        variables: Mapping[str, Any],
        *,
        donate: int | None,
        devices: Sequence[jax.Device] | None,
        chunk_size: int | None,
    ) -> None:
        self.apply = apply
        self.donate = donate
        self.chunk_size = chunk_size
        self.devices = None if devices is None else tuple(devices)
        run: Callable[..., Any] = self._chunked
        self._batch = self._everywhere = None
        if self.devices is not None:
            mesh = Mesh(np.array(self.devices), ("batch",))
            rows, whole = PartitionSpec("batch"), PartitionSpec()
            self._batch, self._everywhere = NamedSharding(mesh, rows), NamedSharding(mesh, whole)

            def run(variables: Mapping[str, Any], *inputs: Any) -> Any:
                specs = (whole, *(rows for _ in inputs))
                mapped = jax.shard_map(self._chunked, mesh=mesh, in_specs=specs, out_specs=rows)
                return mapped(variables, *inputs)

        self.variables = jax.device_put(variables, self._everywhere)
        self._nested = jax.jit(run)
        on_cpu = (self.devices or jax.devices())[0].platform == "cpu"
        self._jitted = jax.jit(
            run,
            donate_argnums=() if donate is None else (1 + donate,),
            compiler_options=CPU_OPTIONS if on_cpu else None,
        )

    def __call__(self, *inputs: Any) -> Any:
        """What the model gives in evaluation.

        Raises:
            ValueError: with `devices`, a batch that they can't share evenly.
        """
        # Options are for a program of its own; a part of another one is compiled with that one's.
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(inputs)):
            return self._nested(self.variables, *inputs)
        try:
            return self._jitted(self.variables, *self._place(inputs))
        except ValueError as error:
            if "compiler_options" not in str(error):
                raise
            return self._nested(self.variables, *inputs)

    def compile(self, *inputs: Any) -> Callable[..., Any]:
        """Compile for inputs of these shapes and dtypes: arrays or `jax.ShapeDtypeStruct`s.

        Returns a function of such inputs that never compiles again, and refuses others.
        """
        specs = [self._spec(x) for x in inputs]
        compiled = self._jitted.lower(self.variables, *specs).compile()

        def call(*inputs: Any) -> Any:
            return compiled(self.variables, *self._place(inputs))

        return call

    def _place(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.devices is None:
            return inputs
        for x in inputs:
            self._check_shares(x)
        # To put an array where it is takes as long as a tenth of a small fusion.
        return tuple(
            x if getattr(x, "sharding", None) == self._batch else jax.device_put(x, self._batch)
            for x in inputs
        )

    def _spec(self, x: Any) -> jax.ShapeDtypeStruct:
        if self.devices is not None:
            self._check_shares(x)
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct(x.shape, dtype, sharding=self._batch)

    def _check_shares(self, x: Any) -> None:
        assert self.devices is not None
        if x.shape[0] % len(self.devices):
            raise ValueError(
                f"expected a batch that {len(self.devices)} devices can share evenly, got "
                f"{x.shape[0]}. Probably the last batch of a data set: pad it, or evaluate it with "
                f"a network frozen for one device."
            )

    def _chunked(self, variables: Mapping[str, Any], *inputs: Array) -> Any:
        """`apply`, to `chunk_size` examples at a time."""
        if self.chunk_size is None or inputs[0].shape[0] <= self.chunk_size:
            return self.apply(variables, *inputs)
        size, batch = self.chunk_size, inputs[0].shape[0]
        whole = batch - batch % size
        results = [self._scan([x[:whole] for x in inputs], variables)]
        if whole < batch:
            results.append(self.apply(variables, *(x[whole:] for x in inputs)))
        return jax.tree.map(
            lambda *parts: jnp.concatenate(parts) if parts[1:] else parts[0], *results
        )

    def _scan(self, inputs: Sequence[Array], variables: Mapping[str, Any]) -> Any:
        """`apply` over a whole number of chunks, in place where an input is donated."""
        assert self.chunk_size is not None
        size, batch = self.chunk_size, inputs[0].shape[0]

        def one(start: Array, inputs: Sequence[Array]) -> Any:
            return self.apply(
                variables, *(lax.dynamic_slice_in_dim(x, start, size) for x in inputs)
            )

        if self.donate is not None:
            position = self.donate

            def step(i: Array, into: Array) -> Array:
                # A chunk of the result goes where the chunk was read that it comes from.
                read = [*inputs[:position], into, *inputs[position + 1 :]]
                return lax.dynamic_update_slice_in_dim(into, one(i * size, read), i * size, 0)

            return lax.fori_loop(0, batch // size, step, inputs[position])
        chunks = lax.map(lambda i: one(i * size, inputs), jnp.arange(batch // size))
        return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), chunks)
