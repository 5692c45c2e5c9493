"""Published figures of TPU chips and GPUs: peak, memory, bandwidth, links and clock."""

import dataclasses

from aff_jax.lookup import look_up

__all__ = ["CHIPS", "GPU_MEMORY_FRACTION", "Chip", "find_chip"]

GPU_MEMORY_FRACTION = 0.75
"""Share of a GPU's memory that JAX reserves by default (XLA_PYTHON_CLIENT_MEM_FRACTION)."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip or a GPU, as its vendor documents it.

    Attributes:
        name: Name in `--topology`.
        platform: "tpu" or "gpu".
        peak: FLOP/s of matrix products in bfloat16 and float16.
        peak_float32: FLOP/s of matrix products of float32 arrays with JAX's default precision: one
            pass in bfloat16 on a TPU, TF32 on a GPU.
        memory: Bytes of memory that a program may use.
        bandwidth: Bytes/s between the memory and the chip.
        links: Bytes/s of all links to other chips, both directions together.
        axes: Number of axes of the torus of chips; 0 if a switch connects all.
        largest: Largest number of chips that these links connect.
        clock: Cycles/s of a TPU's core, to which `estimated_cycles` of the compiler refer; 0 for a
            GPU, whose compiler has no such estimate.
        source: Where the figures are documented.
    """

    name: str
    platform: str
    peak: float
    peak_float32: float
    memory: int
    bandwidth: float
    links: float
    axes: int
    largest: int
    clock: float
    source: str

    @property
    def ring_bandwidth(self) -> float:
        """Return the bytes/s of a ring of chips: both directions of the two links of one axis."""
        return self.links / max(self.axes, 1)


def _tpu(
    name: str,
    tflops: float,
    gib: float,
    gb_per_second: float,
    link_gb_per_second: float,
    axes: int,
    largest: int,
    ghz: float,
) -> Chip:
    return Chip(
        name=name,
        platform="tpu",
        peak=tflops * 1e12,
        peak_float32=tflops * 1e12,
        # The compiler reserves a quarter of a GiB: for v5e it names a capacity of 15.75 GiB.
        memory=int((gib - 0.25) * 2**30),
        bandwidth=gb_per_second * 1e9,
        links=link_gb_per_second * 1e9,
        axes=axes,
        largest=largest,
        clock=ghz * 1e9,
        source="https://cloud.google.com/tpu/docs/system-architecture-tpu-vm",
    )


def _gpu(
    name: str, tflops: float, tf32: float, gb: float, gb_per_second: float, links: float, url: str
) -> Chip:
    return Chip(
        name=name,
        platform="gpu",
        peak=tflops * 1e12,
        peak_float32=tf32 * 1e12,
        memory=int(GPU_MEMORY_FRACTION * gb * 1e9),
        bandwidth=gb_per_second * 1e9,
        links=links * 1e9,
        axes=0,
        largest=8,
        clock=0.0,
        source=url,
    )


CHIPS = {
    chip.name: chip
    for chip in (
        # The clock follows from the peak and the documented number of matrix units: a unit with
        # n^2 cells does 2 n^2 FLOPs per cycle. n is 256 for v6e and tpu7x, and 128 before.
        _tpu("v2", 46, 16, 700, 248, 2, 512, 0.7),
        _tpu("v3", 123, 32, 900, 328, 2, 1024, 0.94),
        _tpu("v4", 275, 32, 1228, 600, 3, 4096, 1.05),
        _tpu("v5e", 197, 16, 819, 400, 2, 256, 1.5),
        _tpu("v5p", 459, 95, 2765, 1200, 3, 6144, 1.75),
        _tpu("v6e", 918, 32, 1640, 800, 2, 256, 1.75),
        _tpu("tpu7x", 2307, 192, 7380, 1200, 3, 9216, 2.2),
        # Dense products, without structured sparsity.
        _gpu("a100", 312, 156, 80, 2039, 600, "https://www.nvidia.com/en-us/data-center/a100/"),
        _gpu("h100", 989, 494, 80, 3352.32, 900, "https://www.nvidia.com/en-us/data-center/h100/"),
        _gpu("h200", 989, 494, 141, 4800, 900, "https://www.nvidia.com/en-us/data-center/h200/"),
    )
}
"""The chips by name."""


def find_chip(name: str) -> Chip:
    """Look up a chip.

    Args:
        name: Name in `CHIPS`.

    Returns:
        Its figures.

    Raises:
        ValueError: If there is no such chip. The message lists those that exist.
    """
    return look_up(CHIPS, "chip in --topology:", name)
