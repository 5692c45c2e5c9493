"""Facts about TPU chips and GPUs: peak, memory, bandwidth, links, and what a compiler must know."""

import dataclasses

__all__ = ["CHIPS", "GPU_MEMORY_FRACTION", "Chip", "GpuProperties"]

GPU_MEMORY_FRACTION = 0.75
"""Share of a GPU's memory that JAX reserves by default (XLA_PYTHON_CLIENT_MEM_FRACTION)."""


@dataclasses.dataclass(frozen=True)
class GpuProperties:
    """Properties of a GPU that XLA needs to compile for it, as CUDA reports them.

    Attributes:
        model: Name of the device.
        capability: Major version of the compute capability.
        core_count: Number of streaming multiprocessors.
        shared_memory: Bytes of shared memory that a block may use.
        l2: Bytes of the L2 cache.
        clock: Boost clock in cycles/s.
        memory: Bytes of memory.
    """

    model: str
    capability: int
    core_count: int
    shared_memory: int
    l2: int
    clock: float
    memory: int


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
        links: Bytes/s of all links to other chips, sent and received together.
        axes: Number of axes of the torus of chips; 0 if a switch connects all.
        largest: Largest number of chips that these links connect.
        clock: Cycles/s of a TPU's core, to which `estimated_cycles` of the compiler refer; 0 for a
            GPU, whose compiler has no such estimate.
        example_topologies: Topologies of this chip, for messages. Larger slices exist too.
        source: Where the vendor documents the figures.
        gpu: Properties that the compiler needs of a GPU; None for a TPU, whose compiler has them.
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
    example_topologies: str
    source: str
    gpu: GpuProperties | None = None

    @property
    def ring_bandwidth(self) -> float:
        """Return the bytes/s that a chip sends in rings over one axis, which has two links.

        One ring goes in each direction. Half of the bytes of a link are sent, the others received.
        """
        return self.links / (2 * max(self.axes, 1))


# The numbers are those of the source of each chip, except for these:
# - `memory` of TPUs is what the compiler (libtpu 0.0.42.1) lets a program use, which is a little
#   less than the documented capacity.
# - `links` of v4 is the documented all-reduce bandwidth of a pod, divided by its chips, times two.
#   `links` of v2 and v3 comes from the paper at the source of v2.
# - `clock` of TPUs is documented nowhere. It follows from the peak: a matrix unit with n^2 cells
#   does 2 n^2 FLOPs per cycle, and n is 256 for v6e and tpu7x and 128 for older chips. The clocks
#   of v6e and tpu7x are the least certain: with the documented number of matrix units they would be
#   3.5 GHz, so twice as many are assumed. As a check, the cycles that the compiler expects for a
#   sum of two large arrays amount to 72 to 94 % of the bandwidth with these clocks.
# - `peak` of GPUs is that of dense products, without structured sparsity. The page of the H100
#   rounds the bandwidth to 3.35 TB/s.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            "v2", "tpu", peak=46e12, peak_float32=46e12, memory=int(14.96 * 2**30),
            bandwidth=700e9, links=496e9, axes=2, largest=512, clock=0.7e9,
            example_topologies="v2:2x2",
            source="https://doi.org/10.1145/3360307",
        ),
        Chip(
            "v3", "tpu", peak=123e12, peak_float32=123e12, memory=int(30.96 * 2**30),
            bandwidth=900e9, links=656e9, axes=2, largest=1024, clock=0.94e9,
            example_topologies="v3:2x2",
            source="https://docs.cloud.google.com/tpu/docs/v3",
        ),
        Chip(
            "v4", "tpu", peak=275e12, peak_float32=275e12, memory=int(30.5 * 2**30),
            bandwidth=1200e9, links=540e9, axes=3, largest=4096, clock=1.05e9,
            example_topologies="v4:2x2x1",
            source="https://docs.cloud.google.com/tpu/docs/v4",
        ),
        Chip(
            "v5e", "tpu", peak=197e12, peak_float32=197e12, memory=int(15.75 * 2**30),
            bandwidth=819e9, links=400e9, axes=2, largest=256, clock=1.5e9,
            example_topologies="v5e:1x1, v5e:2x2, v5e:4x4, v5e:16x16",
            source="https://docs.cloud.google.com/tpu/docs/v5e",
        ),
        Chip(
            "v5p", "tpu", peak=459e12, peak_float32=459e12, memory=int(95.74 * 2**30),
            bandwidth=2765e9, links=1200e9, axes=3, largest=6144, clock=1.75e9,
            example_topologies="v5p:2x2x1, v5p:4x4x4",
            source="https://docs.cloud.google.com/tpu/docs/v5p",
        ),
        Chip(
            "v6e", "tpu", peak=918e12, peak_float32=918e12, memory=int(31.25 * 2**30),
            bandwidth=1638e9, links=800e9, axes=2, largest=256, clock=1.75e9,
            example_topologies="v6e:1x1, v6e:2x2, v6e:4x4, v6e:16x16",
            source="https://docs.cloud.google.com/tpu/docs/v6e",
        ),
        Chip(
            "tpu7x", "tpu", peak=2307e12, peak_float32=2307e12, memory=int(189.5 * 2**30),
            bandwidth=7380e9, links=1200e9, axes=3, largest=9216, clock=2.2e9,
            example_topologies="tpu7x:2x2x1",
            source="https://docs.cloud.google.com/tpu/docs/tpu7x",
        ),
        Chip(
            "a100", "gpu", peak=312e12, peak_float32=156e12,
            memory=int(GPU_MEMORY_FRACTION * 80e9), bandwidth=2039e9, links=600e9,
            axes=0, largest=8, clock=0.0, example_topologies="a100, a100:8",
            source="https://www.nvidia.com/en-us/data-center/a100/",
            gpu=GpuProperties(
                "NVIDIA A100-SXM4-80GB", capability=8, core_count=108, shared_memory=166912,
                l2=40 * 2**20, clock=1.41e9, memory=80 * 2**30,
            ),
        ),
        Chip(
            "h100", "gpu", peak=989e12, peak_float32=494e12,
            memory=int(GPU_MEMORY_FRACTION * 80e9), bandwidth=3352.32e9, links=900e9,
            axes=0, largest=8, clock=0.0, example_topologies="h100, h100:8",
            source="https://www.nvidia.com/en-us/data-center/h100/",
            gpu=GpuProperties(
                "NVIDIA H100 80GB HBM3", capability=9, core_count=132, shared_memory=232448,
                l2=50 * 2**20, clock=1.98e9, memory=84942979072,
            ),
        ),
        Chip(
            "h200", "gpu", peak=989e12, peak_float32=494e12,
            memory=int(GPU_MEMORY_FRACTION * 141e9), bandwidth=4800e9, links=900e9,
            axes=0, largest=8, clock=0.0, example_topologies="h200, h200:8",
            source="https://www.nvidia.com/en-us/data-center/h200/",
            gpu=GpuProperties(
                "NVIDIA H200", capability=9, core_count=132, shared_memory=232448,
                l2=60 * 2**20, clock=1.98e9, memory=150754820096,
            ),
        ),
    )
}  # fmt: skip
"""The chips by name."""
