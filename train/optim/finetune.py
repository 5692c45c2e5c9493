"""Training that starts from trained weights: where they come from, and which of them stay."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from flax import traverse_util

import aff_jax
from aff_jax.differences import list_differences
from aff_jax.lookup import unknown_name

__all__ = ["FrozenPart", "initialize_from"]

HEAD = "head"
"""Name of the layer that answers, in every host."""


def initialize_from(path: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The variables with the values of a file that `aff_jax.save` or `aff-jax convert` wrote.

    Also returns the names of the head's arrays where the file's have another shape, for other
    classes: these keep their values, so that a new head is trained.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of ours, or any other array is missing, unexpected or of
            another shape; all are listed.
    """
    _, loaded = aff_jax.load(path)
    ours, theirs = (traverse_util.flatten_dict(dict(v), sep="/") for v in (variables, loaded))
    new_head = [
        name
        for name in ours
        if name in theirs and _in_head(name) and ours[name].shape != theirs[name].shape
    ]
    lines = list_differences(
        {name: leaf.shape for name, leaf in ours.items()},
        {n: (ours if n in new_head else theirs)[n].shape for n in theirs},
    )
    if lines:
        raise ValueError(
            f"init_from {path} holds other arrays than the network:\n"
            + "\n".join(lines)
            + "\nProbably its model, fusion or one of their fields is another: `aff-jax summary` "
            "and the file's metadata tell. Only the head may differ in shape."
        )
    merged = {
        name: leaf if name in new_head else np.asarray(theirs[name], leaf.dtype)
        for name, leaf in ours.items()
    }
    return traverse_util.unflatten_dict(merged, sep="/"), new_head


class FrozenPart:
    """A network some of whose submodules stay as they are, whatever it is trained for.

    Those are the submodules of the network itself whose names begin with one of `prefixes`, such as
    "stem" and "stage1". Their parameters get neither gradients nor updates, and their batch norms
    normalise by running statistics, which do not move.
    """

    def __init__(self, model: nn.Module, prefixes: Sequence[str]) -> None:
        self.model = model
        self.prefixes = tuple(prefixes)

    def __call__(self, name: str) -> bool:
        """Whether the submodule of that name stays."""
        return name.startswith(self.prefixes)

    def check(self, variables: Mapping[str, Any]) -> None:
        """Refuse what can't be meant.

        Raises:
            ValueError: a prefix that no submodule has, or nothing is left to train.
        """
        # A norm without scale and bias has statistics only.
        names = {name for collection in variables.values() for name in collection}
        for prefix in self.prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(unknown_name("submodule to freeze", prefix, names))
        if all(map(self, variables["params"])):
            raise ValueError(
                f"expected a network with something left to train, got "
                f"freeze={self.prefixes}, which is all of it: {', '.join(sorted(names))}."
            )

    def apply(self, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """`model.apply`, with the frozen submodules in evaluation."""
        params = {
            name: jax.lax.stop_gradient(part) if self(name) else part
            for name, part in variables["params"].items()
        }
        with nn.intercept_methods(self._evaluate_frozen):
            return self.model.apply({**variables, "params": params}, *args, **kwargs)

    def keep(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """The optimizer without its updates of what stays: weight decay needs no gradient."""

        def frozen(params: Mapping[str, Any]) -> Any:
            # Over the flat dict: every leaf's path begins with its submodule.
            return jax.tree_util.tree_map_with_path(lambda path, _: self(path[0].key), params)

        return optax.chain(optimizer, optax.masked(optax.set_to_zero(), frozen))

    def _evaluate_frozen(
        self,
        call: Callable[..., Any],
        args: Any,
        kwargs: Any,
        context: nn.module.InterceptorContext,
    ) -> Any:
        module = context.module
        is_norm = isinstance(module, aff_jax.BatchNorm) and context.method_name == "__call__"
        if is_norm and module.path and self(module.path[0]):
            return call(args[0], train=False)
        return call(*args, **kwargs)


def _in_head(name: str) -> bool:
    return name.split("/")[1] == HEAD
