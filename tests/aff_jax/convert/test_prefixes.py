"""Arrays are renamed by prefixes, patterns and functions, and back; and ignored."""

import re

import flax.linen as nn
import numpy as np
import pytest

from aff_jax.convert import from_mxnet, from_torch, to_torch
from aff_jax.convert.prefixes import (
    drop_ignored,
    find_prefixes,
    rename_arrays,
    restore_names,
    select_prefix,
)
from aff_jax.differences import DifferentArraysError
from tests.aff_jax.convert.states import assert_same, images

NAMES = dict.fromkeys(["enc.0.weight", "enc.1.weight", "head.weight"])


@pytest.mark.parametrize(
    ("rename", "expected"),
    [
        (None, ["enc.0.weight", "enc.1.weight", "head.weight"]),
        ({"enc": "blocks"}, ["blocks.0.weight", "blocks.1.weight", "head.weight"]),
        ({"enc": "", "head": "fc"}, ["0.weight", "1.weight", "fc.weight"]),
        (
            {re.compile(r"^enc\.(\d)"): r"block\1", "enc": "unused", "head": "fc"},
            ["block0.weight", "block1.weight", "fc.weight"],
        ),
        (lambda name: name.replace("enc.", "e"), ["e0.weight", "e1.weight", "head.weight"]),
    ],
)
def test_renames_by_prefix_pattern_and_function(rename, expected):
    renamed = rename_arrays(NAMES, rename, strict=False)
    assert list(renamed) == expected
    assert list(restore_names(renamed, rename, NAMES)) == list(NAMES)


def test_rename_reports_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"no name begins with .*the pattern 'dec'"):
        rename_arrays(NAMES, {re.compile("dec"): ""})
    with pytest.raises(ValueError, match=r"two arrays the name 'enc.weight'"):
        rename_arrays(NAMES, {re.compile(r"\.\d"): ""})
    with pytest.raises(
        ValueError, match=r"'\\\\3' cannot replace what 'enc' matches: invalid group"
    ):
        rename_arrays(NAMES, {re.compile("enc"): r"\3"})
    with pytest.raises(TypeError, match=r"expected a string as the new name of 'enc.0.weight'"):
        rename_arrays(NAMES, lambda name: None)
    with pytest.raises(TypeError, match=r"expected a dict of prefixes .*got 'enc'"):
        rename_arrays(NAMES, "enc")
    for rename, cause in (
        ({re.compile("enc"): "dec"}, "'enc' is a pattern"),
        (str.lower, "it is a function"),
        ({"a": "c", "b": "c"}, "'a' and 'b' both become 'c'"),
    ):
        with pytest.raises(ValueError, match=rf"because {cause}.*names=torch_module.state_dict"):
            restore_names(NAMES, rename, None)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        for number in range(2):
            x = nn.Dense(3, name=f"block{number}")(x)
        return x


STATE = {
    f"enc.{number}.{name}": images(*shape, seed=number)
    for number in range(2)
    for name, shape in (("weight", (3, 3)), ("bias", (3,)))
}


@pytest.mark.parametrize(
    "rename",
    [
        {"enc.0": "block0", "enc.1": "block1"},
        {re.compile(r"enc\.(\d+)"): r"block\1"},
        lambda name: name.replace("enc.", "block"),
    ],
)
def test_conversion_renames_both_ways(rename):
    x = images(2, 3)
    variables = from_torch(STATE, Network(), x, rename=rename)
    kernel = variables["params"]["block1"]["kernel"]
    np.testing.assert_array_equal(kernel, STATE["enc.1.weight"].T)
    names = [*STATE, "enc.num_steps"]  # a buffer without a counterpart
    assert_same(to_torch(variables, Network(), x, rename=rename, names=names), STATE)
    same = from_mxnet(STATE, Network(), x, rename=rename)
    np.testing.assert_array_equal(same["params"]["block1"]["kernel"], kernel)
    with pytest.raises(DifferentArraysError, match=r"names has no name .*: 2 unnamed") as error:
        to_torch(variables, Network(), x, rename=rename, names=list(STATE)[:2])
    assert "Probably `rename` differs" in str(error.value)
    expected = ["  unnamed     block1.bias (3,)", "  unnamed     block1.weight (3, 3)"]
    assert error.value.differences == expected


def test_ignored_arrays_need_no_counterpart():
    buffers = {"net.enc.mask": np.ones(3), "net.a.position_ids": np.arange(3)}
    state = {f"net.{name}": array for name, array in STATE.items()} | buffers
    options = {"prefix": "net", "rename": {re.compile(r"enc\.(\d+)"): r"block\1"}}
    x, ignore = images(2, 3), ["enc.mask", "*.position_ids", "not.there"]
    for convert in (from_torch, from_mxnet):
        variables = convert(state, Network(), x, **options, ignore=ignore)
        assert variables["params"].keys() == {"block0", "block1"}
    with pytest.raises(ValueError, match=r"(?s)unexpected  enc.mask.*pass ignore=\['enc.mask'\]"):
        from_torch(state, Network(), x, **options, ignore=ignore[1:])
    with pytest.raises(TypeError, match="expected a sequence of names"):
        drop_ignored(state, "enc.mask")


def test_the_longest_prefix_is_replaced():
    arrays = {"enc.fuse.weight": 1, "enc.fused.weight": 2, "head": 3}
    renamed = rename_arrays(arrays, {"enc": "encoder", "enc.fuse": "", "head": "fc"})
    assert renamed == {"weight": 1, "encoder.fused.weight": 2, "fc": 3}
    assert rename_arrays(arrays, {"": "net"}) == {f"net.{k}": v for k, v in arrays.items()}
    assert rename_arrays(arrays, None) == arrays


def test_a_prefix_without_names_is_refused():
    arrays = {"enc.fuse.weight": 1}
    # "enc" matches nothing, since the longer prefix has the only name.
    with pytest.raises(ValueError, match="rename: no name begins with 'enc'"):
        rename_arrays(arrays, {"enc": "wrong", "enc.fuse": ""})
    with pytest.raises(ValueError, match=r"begins with 'e'\. The first names are enc\.fuse"):
        rename_arrays(arrays, {"e": "a"})
    assert rename_arrays(arrays, {"e": "a"}, strict=False) == arrays


def test_two_arrays_with_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two arrays the name 'c\.w'; one of them was 'b\.w'"):
        rename_arrays({"a.w": 1, "b.w": 2}, {"a": "c", "b": "c"})


@pytest.mark.parametrize("prefix", ["encoder.fuse", "encoder.fuse."])
def test_names_with_a_prefix_are_selected(prefix):
    arrays = {"encoder.fuse.weight": 1, "encoder.fuse_2.weight": 2, "head.weight": 3}
    assert select_prefix(arrays, prefix) == {"weight": 1}
    assert select_prefix(arrays, "") == arrays


def test_an_unknown_prefix_gets_the_similar_ones():
    arrays = {"encoder.fuse.weight": 1, "head.weight": 2}
    with pytest.raises(ValueError, match=r"begins with 'encodr\.'\. Similar .* are 'encoder\.'"):
        select_prefix(arrays, "encodr")


def test_a_prefix_that_most_names_have_is_found():
    expected = dict.fromkeys("abcdefghijk")
    found = dict.fromkeys(f"net.{name}" for name in expected)
    found |= dict.fromkeys(f"half.{name}" for name in "abcde")
    assert find_prefixes(expected, found) == ["net."]
    del found["net.a"]
    assert find_prefixes(expected, found) == ["net."]
    del found["net.b"]
    assert find_prefixes(expected, found) == []
