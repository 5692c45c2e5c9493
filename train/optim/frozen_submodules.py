"""Freeze submodules of a network: no gradients, no updates, and fixed running statistics."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import optax

from aff_jax.lookup import unknown_name

__all__ = ["FrozenSubmodules"]


class FrozenSubmodules:
    """A network with frozen submodules.

    A direct submodule of the network is frozen if its name starts with one of the prefixes. All
    layers inside it are frozen too. Their parameters get neither gradients nor updates. They run in
    evaluation mode, so their batch norms use the running statistics and do not change them.

    Attributes:
        model: The network.
        prefixes: Prefixes of names, such as `("stem", "stage1")`.
    """

    def __init__(self, model: nn.Module, prefixes: Sequence[str]) -> None:
        self.model = model
        self.prefixes = tuple(prefixes)

    def is_frozen(self, name: str) -> bool:
        """Return whether the submodule of this name is frozen.

        Args:
            name: Name of a submodule of the network.

        Returns:
            True if the name starts with one of the prefixes.
        """
        return name.startswith(self.prefixes)

    def check(self, variables: Mapping[str, Any]) -> None:
        """Check the prefixes against the network's variables.

        Args:
            variables: Variables of the network.

        Raises:
            ValueError: If no submodule has one of the prefixes, or all parameters are frozen.
        """
        # All collections, because a batch norm without scale and bias has no parameters.
        names = {name for collection in variables.values() for name in collection}
        for prefix in self.prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(unknown_name("submodule to freeze", prefix, names))
        if all(map(self.is_frozen, variables["params"])):
            raise ValueError(
                f"expected a network with parameters left to train, got "
                f"frozen_submodules={self.prefixes}, which freezes all of it: "
                f"{', '.join(sorted(names))}."
            )

    def apply(self, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Call `model.apply` with the frozen submodules in evaluation mode.

        Args:
            variables: Variables of the network.
            *args: Arguments of `model.apply`.
            **kwargs: Keyword arguments of `model.apply`.

        Returns:
            The result of `model.apply`. No gradient reaches the frozen parameters.
        """
        params = {
            name: jax.lax.stop_gradient(leaves) if self.is_frozen(name) else leaves
            for name, leaves in variables["params"].items()
        }
        with nn.intercept_methods(self._evaluate_frozen):
            return self.model.apply({**variables, "params": params}, *args, **kwargs)

    def zero_updates(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """Wrap an optimizer so that it does not update frozen parameters.

        Zero gradients are not enough, because weight decay and momentum change a parameter without
        a gradient.

        Args:
            optimizer: The optimizer of all parameters.

        Returns:
            An optimizer whose updates of frozen parameters are zero.
        """

        def frozen(params: Mapping[str, Any]) -> dict[str, bool]:
            return {name: self.is_frozen(name) for name in params}

        # `optax.transforms.freeze` does the same, but needs its mask now. This one is computed from
        # the parameters, which the optimizer gets in `init`.
        return optax.chain(optimizer, optax.masked(optax.set_to_zero(), frozen))

    def _evaluate_frozen(
        self,
        call: Callable[..., Any],
        args: Any,
        kwargs: Any,
        context: nn.module.InterceptorContext,
    ) -> Any:
        """Replace `train=True` by False in calls of a frozen submodule.

        Only calls of direct submodules are changed. They pass `train` to all layers inside them.
        Calls of the inner layers would not be enough: the shortcuts of `aff_jax.fast` compute some
        layers together, without calling each.
        """
        path = context.module.path
        if len(path) != 1 or not self.is_frozen(path[0]):
            return call(*args, **kwargs)
        signature = inspect.signature(getattr(context.module, context.method_name))
        bound = signature.bind(*args, **kwargs)
        if "train" in bound.arguments:
            bound.arguments["train"] = False
        return call(*bound.args, **bound.kwargs)
