"""Docstrings of public functions and methods have the sections that CONTRIBUTING requires."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap

import pytest

import aff_jax
import train

PACKAGES = (aff_jax, train)
MODULES = [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


def public_functions(module):
    """Yield names and functions of a module, methods included, that no base class documents."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isfunction(value) and value.__module__ == module.__name__:
            yield name, value
        elif inspect.isclass(value) and value.__module__ == module.__name__:
            for method, found in vars(value).items():
                found = getattr(found, "__func__", found)  # of a class method
                of_base = any(method in vars(base) for base in value.__mro__[1:])
                of_field = getattr(found, "__name__", method) != method  # a default value
                if inspect.isfunction(found) and method[0] != "_" and not of_base | of_field:
                    yield f"{name}.{method}", found


def raised_classes(node):
    """Yield the names of the errors that statements raise outside of `try` and nested functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            yield ast.unparse(child.exc.func).rpartition(".")[2]
        caught = isinstance(node, ast.Try) and node.handlers and child in node.body
        if not caught and not isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            yield from raised_classes(child)


def missing_sections(function):
    """Return what the docstring of a function lacks."""
    text = inspect.getdoc(function) or ""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    parameters = [x for x in inspect.signature(function).parameters if x not in ("self", "cls")]
    missing = [name for name in parameters if not re.search(rf"^ +\**{name}: ", text, re.MULTILINE)]
    returned = "None" if node.returns is None else ast.unparse(node.returns)
    # A function without parameters may say in its first line what it returns.
    short = not parameters and "return" in text.partition("\n")[0].lower()
    sections = re.search(r"^(Returns|Yields):", text, re.MULTILINE)
    if returned not in ("None", "NoReturn", "Iterator[None]") and not sections and not short:
        missing.append("Returns")
    raised = {x for x in raised_classes(node) if x[0].isupper() and x != "NotImplementedError"}
    return missing + sorted(name for name in raised if not re.search(rf"\b{name}\b.*: ", text))


@pytest.mark.parametrize("name", MODULES)
def test_sections_are_complete(name):
    found = dict(public_functions(importlib.import_module(name)))
    missing = {key: missing_sections(function) for key, function in found.items()}
    assert {key: names for key, names in missing.items() if names} == {}
