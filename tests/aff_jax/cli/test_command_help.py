"""The help of commands."""

from aff_jax.cli.command_help import help_line


def test_help_is_the_first_line_of_a_docstring():
    assert help_line(help_line) == "Return the first line of the docstring of a command."
