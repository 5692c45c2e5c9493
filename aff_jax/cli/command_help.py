"""The help of a command, from its docstring."""

from collections.abc import Callable

__all__ = ["help_line"]


def help_line(command: Callable[..., object]) -> str:
    """Return the first line of the docstring of a command.

    Args:
        command: The function that runs the command.

    Returns:
        The line, for `aff-jax --help`.
    """
    return (command.__doc__ or "").partition("\n")[0]
