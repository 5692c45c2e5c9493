"""The training step of a config is compiled without its dataset and without arrays on devices."""

import pytest

from configs import cifar10_resnet32
from configs import digits as digits_config
from tests.train.plan.made import cpu_topology
from train.plan.program import compile_step, used_bytes


@pytest.fixture
def digits(small_network):
    config = digits_config.get_config()
    config.data_dir = "/nowhere"
    return config


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_the_step_of_every_strategy_is_compiled(digits, parallel):
    digits.parallel = parallel
    step = compile_step(digits, cpu_topology())
    assert step.text is not None
    assert "all-reduce" in step.text
    assert step.memory > 0
    assert step.total_steps == round(60 * 1437 / 64)
    assert step.cached_bytes == 1437 * (64 + 4)


def test_microbatches_have_the_flops_of_the_batch(digits):
    whole = compile_step(digits, cpu_topology())
    digits.accumulation = 4
    assert compile_step(digits, cpu_topology()).flops == whole.flops > 0


def test_a_batch_that_the_devices_do_not_divide_is_refused(digits):
    digits.batch_size = 65
    with pytest.raises(ValueError, match="the number of devices divides, got 65 for 2 devices"):
        compile_step(digits, cpu_topology())


def test_a_batch_larger_than_the_dataset_is_refused(digits):
    digits.batch_size = 1438
    with pytest.raises(ValueError, match=r"at most the 1,437 training examples.*got 1,438"):
        compile_step(digits, cpu_topology())


def test_an_unknown_network_is_refused():
    config = cifar10_resnet32.get_config()
    config.model = "resnet"
    with pytest.raises(ValueError, match="unknown model 'resnet'"):
        compile_step(config, cpu_topology())


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. "
            "Exceeded hbm capacity by 4.75G.",
            int(20.5 * 2**30),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (53.71G) exceeds available HBM (15.75G).",
            int(53.71 * 2**30) + 1000,
        ),
        ("INTERNAL: something else", None),
    ],
)
def test_the_memory_that_the_compiler_would_need_is_read(message, size):
    assert used_bytes(message, argument_bytes=1000) == size
