"""Initialize training from a file of pretrained weights."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

import aff_jax
from aff_jax.differences import list_differences

__all__ = ["HEAD", "initialize_from"]

HEAD = "head"
"""Name of the classifier in every host."""


def initialize_from(path: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replace the values of `variables` by those of a file.

    Arrays of the head keep their values where the file has another shape, since it was trained for
    other classes.

    Args:
        path: A file written by `aff_jax.save` or `aff-jax convert`. `~` is the home directory.
        variables: The initialized variables of the network.

    Returns:
        A tuple of the new variables and the names of the arrays of the head that kept their values,
        such as `params/head/kernel`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file was not written by `aff_jax.save`, or an array is missing,
            unexpected or of another shape. The message lists all of these.
    """
    _, loaded = aff_jax.load(os.path.expanduser(path))
    expected, found = (traverse_util.flatten_dict(dict(v), sep="/") for v in (variables, loaded))
    new_head = [
        name
        for name in expected
        if name in found
        and name.split("/")[1] == HEAD
        and expected[name].shape != found[name].shape
    ]
    lines = list_differences(
        {name: leaf.shape for name, leaf in expected.items()},
        {n: (expected if n in new_head else found)[n].shape for n in found},
    )
    if lines:
        raise ValueError(
            f"the arrays of init_from {path} are not those of the network:\n"
            + "\n".join(lines)
            + "\nProbably the file has another model or fusion, or other fields of these: compare "
            "`aff-jax summary` and the metadata of the file. Only the head may differ in shape."
        )
    merged = {
        name: leaf if name in new_head else np.asarray(found[name], leaf.dtype)
        for name, leaf in expected.items()
    }
    return traverse_util.unflatten_dict(merged, sep="/"), new_head
