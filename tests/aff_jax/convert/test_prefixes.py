"""Prefixes of names are replaced, selected and found."""

import pytest

from aff_jax.convert.prefixes import find_prefixes, rename_prefixes, select_prefix


def test_the_longest_prefix_is_replaced():
    arrays = {"enc.fuse.weight": 1, "enc.fused.weight": 2, "head": 3}
    renamed = rename_prefixes(arrays, {"enc": "encoder", "enc.fuse": "", "head": "fc"})
    assert renamed == {"weight": 1, "encoder.fused.weight": 2, "fc": 3}
    assert rename_prefixes(arrays, {"": "net"}) == {f"net.{k}": v for k, v in arrays.items()}
    assert rename_prefixes(arrays, None) == arrays


def test_a_prefix_without_names_is_refused():
    arrays = {"enc.fuse.weight": 1}
    # "enc" matches nothing, since the longer prefix has the only name.
    with pytest.raises(ValueError, match="rename: no name begins with 'enc'"):
        rename_prefixes(arrays, {"enc": "wrong", "enc.fuse": ""})
    with pytest.raises(ValueError, match=r"begins with 'e'\. The first names are enc\.fuse"):
        rename_prefixes(arrays, {"e": "a"})
    assert rename_prefixes(arrays, {"e": "a"}, strict=False) == arrays


def test_two_arrays_with_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two arrays the name 'c\.w'; one of them was 'b\.w'"):
        rename_prefixes({"a.w": 1, "b.w": 2}, {"a": "c", "b": "c"})


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
