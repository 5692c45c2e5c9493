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
        examples: Topologies of this chip, for messages. Larger slices exist too.
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
    examples: str
    source: str
    gpu: GpuProperties | None = None

    @property
    def ring_bandwidth(self) -> float:
        """Return the bytes/s that a chip sends in rings over one axis, which has two links.

        One ring goes in each direction. Half of the bytes of a link are sent, the others received.
        """
        return self.links / (2 * max(self.axes, 1))


def _tpu(
    name: str,
    *,
    tflops: float,
    gib: float,
    gb_per_second: float,
    link_gb_per_second: float,
    axes: int,
    largest: int,
    ghz: float,
    examples: str,
    source: str,
) -> Chip:
    return Chip(
        name=name,
        platform="tpu",
        peak=tflops * 1e12,
        peak_float32=tflops * 1e12,
        memory=int(gib * 2**30),
        bandwidth=gb_per_second * 1e9,
        links=link_gb_per_second * 1e9,
        axes=axes,
        largest=largest,
        clock=ghz * 1e9,
        examples=examples,
        source=source,
    )


def _gpu(
    name: str,
    *,
    tflops: float,
    tf32_tflops: float,
    gb: float,
    gb_per_second: float,
    link_gb_per_second: float,
    gpu: GpuProperties,
) -> Chip:
    return Chip(
        name=name,
        platform="gpu",
        peak=tflops * 1e12,
        peak_float32=tf32_tflops * 1e12,
        memory=int(GPU_MEMORY_FRACTION * gb * 1e9),
        bandwidth=gb_per_second * 1e9,
        links=link_gb_per_second * 1e9,
        axes=0,
        largest=8,
        clock=0.0,
        examples=f"{name}, {name}:8",
        source=f"https://www.nvidia.com/en-us/data-center/{name}/",
        gpu=gpu,
    )


# TPU: `gib` is what the compiler, libtpu 0.0.42.1, lets a program use: a little less than the
# documented capacity. For v4, `link_gb_per_second` is twice the documented all-reduce bandwidth of
# a pod by its chips; for v2 and v3 it is that of the paper at v2's source. No page has the clocks.
# They follow from the peak: a matrix unit with n^2 cells does 2 n^2 FLOPs per cycle, and n is 256
# for v6e and tpu7x, and 128 before. For these two it takes twice the matrix units that the
# documents list, with which the clock would be 3.5 GHz: they are the least certain. By the clocks,
# the compiler expects a sum of two large arrays to use 72 to 94 % of the bandwidth.
# GPU: dense products, without structured sparsity; the page of the H100 rounds to 3.35 TB/s.
CHIPS = {
    chip.name: chip
    for chip in (
        _tpu(
            "v2", tflops=46, gib=14.96, gb_per_second=700, link_gb_per_second=496, axes=2,
            largest=512, ghz=0.7, examples="v2:2x2", source="https://doi.org/10.1145/3360307",
        ),
        _tpu(
            "v3", tflops=123, gib=30.96, gb_per_second=900, link_gb_per_second=656, axes=2,
            largest=1024, ghz=0.94, examples="v3:2x2",
            source="https://docs.cloud.google.com/tpu/docs/v3",
        ),
        _tpu(
            "v4", tflops=275, gib=30.5, gb_per_second=1200, link_gb_per_second=540, axes=3,
            largest=4096, ghz=1.05, examples="v4:2x2x1",
            source="https://docs.cloud.google.com/tpu/docs/v4",
        ),
        _tpu(
            "v5e", tflops=197, gib=15.75, gb_per_second=819, link_gb_per_second=400, axes=2,
            largest=256, ghz=1.5, examples="v5e:1x1, v5e:2x2, v5e:4x4, v5e:16x16",
            source="https://docs.cloud.google.com/tpu/docs/v5e",
        ),
        _tpu(
            "v5p", tflops=459, gib=95.74, gb_per_second=2765, link_gb_per_second=1200, axes=3,
            largest=6144, ghz=1.75, examples="v5p:2x2x1, v5p:4x4x4",
            source="https://docs.cloud.google.com/tpu/docs/v5p",
        ),
        _tpu(
            "v6e", tflops=918, gib=31.25, gb_per_second=1638, link_gb_per_second=800, axes=2,
            largest=256, ghz=1.75, examples="v6e:1x1, v6e:2x2, v6e:4x4, v6e:16x16",
            source="https://docs.cloud.google.com/tpu/docs/v6e",
        ),
        _tpu(
            "tpu7x", tflops=2307, gib=189.5, gb_per_second=7380, link_gb_per_second=1200, axes=3,
            largest=9216, ghz=2.2, examples="tpu7x:2x2x1",
            source="https://docs.cloud.google.com/tpu/docs/tpu7x",
        ),
        _gpu(
            "a100", tflops=312, tf32_tflops=156, gb=80, gb_per_second=2039, link_gb_per_second=600,
            gpu=GpuProperties(
                "NVIDIA A100-SXM4-80GB", capability=8, core_count=108, shared_memory=166912,
                l2=40 * 2**20, clock=1.41e9, memory=80 * 2**30,
            ),
        ),
        _gpu(
            "h100", tflops=989, tf32_tflops=494, gb=80, gb_per_second=3352.32,
            link_gb_per_second=900,
            gpu=GpuProperties(
                "NVIDIA H100 80GB HBM3", capability=9, core_count=132, shared_memory=232448,
                l2=50 * 2**20, clock=1.98e9, memory=84942979072,
            ),
        ),
        _gpu(
            "h200", tflops=989, tf32_tflops=494, gb=141, gb_per_second=4800,
            link_gb_per_second=900,
            gpu=GpuProperties(
                "NVIDIA H200", capability=9, core_count=132, shared_memory=232448,
                l2=60 * 2**20, clock=1.98e9, memory=150754820096,
            ),
        ),
    )
}  # fmt: skip
"""The chips by name."""
