"""Names of topologies, and the messages where there is no such one or no compiler."""

import importlib.util

import pytest

from train.plan.topologies import describe_topology


def test_an_unknown_chip_is_refused_with_the_topologies_that_exist():
    with pytest.raises(ValueError, match=r"v5e:4x4, .*h100:8.*'v9:2x2': unknown chip"):
        describe_topology("v9:2x2")


def test_a_name_without_a_colon_is_refused_with_an_example():
    for name, example in (("v5e-4", "v5e:16x16"), ("h100x8", "h100:8")):
        with pytest.raises(ValueError, match=rf"unknown chip\. Write {example} for example"):
            describe_topology(name)


def test_too_many_gpus_are_refused():
    with pytest.raises(ValueError, match="up to 8 GPUs of a machine as in h100:8, got 'h100:64'"):
        describe_topology("h100:64")


@pytest.mark.parametrize(("name", "compiler"), [("v5e:2x2", "libtpu"), ("h100", "CUDA plugin")])
def test_the_extra_is_named_where_the_compiler_is_missing(monkeypatch, name, compiler):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=rf"{compiler} is not installed.*\[train,plan\]"):
        describe_topology(name)
