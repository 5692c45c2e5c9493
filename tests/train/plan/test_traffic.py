"""Counts of recorded programs against counts by hand."""

import pytest

from tests.train.plan.programs import CONDITIONAL, GATHER, GPU, TPU
from train.plan.hlo import parse
from train.plan.traffic import count_traffic, module_of

SLICE = 8 * 128 * 2


def test_a_loop_counts_as_often_as_it_runs_and_a_slice_counts_as_a_slice():
    traffic = count_traffic(parse(TPU))
    assert traffic.cycles == 4 * 1000
    top = traffic.operations[0]
    # Four times: the slice is read and written, and the position is read.
    assert (top.name, top.bytes) == ("read", 4 * (2 * SLICE + 4))
    assert top.module == "Net/block1/fuse/mul (backward)"


def test_a_loop_without_a_known_bound_counts_once_and_is_named():
    assert not count_traffic(parse(TPU)).loops_counted_once
    traffic = count_traffic(parse(TPU.replace("%n.2), direction=LT", "%i.2), direction=NE")))
    assert (traffic.cycles, traffic.loops_counted_once) == (1000, ("loop",))


def test_names_a_large_gather_without_an_estimate():
    assert count_traffic(parse(GATHER)).without_estimate == ("augment/gather",)
    small = GATHER.replace("65536", "65535")
    estimated = GATHER.replace(
        "kind=kCustom", 'kind=kLoop, backend_config={"estimated_cycles":"9"}'
    )
    without_any = GATHER.replace('"estimated_cycles":"10"', "")  # as on a GPU
    for program in (TPU, small, estimated, without_any):
        assert not count_traffic(parse(program)).without_estimate


def test_memory_on_the_chip_is_free_and_a_copy_counts_once():
    traffic = count_traffic(parse(TPU))
    # The loop, the copy of the constant, the prefetched weight, and the scalars of the all-reduce.
    assert traffic.bytes == 4 * (2 * SLICE + 4) + 8 + 64 + 8
    assert traffic.executed == 4 + 3


def test_collectives_and_their_bytes():
    traffic = count_traffic(parse(TPU))
    assert traffic.collectives == {"all-reduce": 1}
    assert traffic.collective_bytes == {"all-reduce": 64 + 4}


def test_of_a_conditional_the_most_expensive_branch_counts():
    traffic = count_traffic(parse(CONDITIONAL))
    assert (traffic.cycles, traffic.executed) == (500, 1)


def test_kernels_and_bytes_of_a_gpu():
    traffic = count_traffic(parse(GPU))
    assert (traffic.executed, traffic.bytes, traffic.cycles) == (2, 2 * 3 * 4096, 0)
    assert traffic.operations[0].module == "AFF/AFF.fuse/add"


@pytest.mark.parametrize(
    ("op_name", "module"),
    [
        ("jit(f)/jvp(AFF)/AFF.fuse/local/dot_general", "AFF/AFF.fuse/local/dot_general"),
        (
            "jit(_fun)/shard_map/transpose(jvp(Net))/stage1_block0/norm1/reduce_sum",
            "Net/stage1_block0/norm1/reduce_sum (backward)",
        ),
        ("", ""),
    ],
)
def test_the_module_is_named_without_wrappers(op_name, module):
    assert module_of(op_name) == module
