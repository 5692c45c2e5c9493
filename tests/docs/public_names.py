"""The public names of the library: those in the `__all__` of its modules."""

import importlib
import inspect
import pkgutil

import aff_jax


def public_modules():
    """Return the names of modules with `__all__`, except the command line, which is not an API."""
    found = pkgutil.walk_packages(aff_jax.__path__, f"{aff_jax.__name__}.")
    names = [aff_jax.__name__, *(module.name for module in found)]
    names = [name for name in names if not name.startswith("aff_jax.cli")]
    return [name for name in names if hasattr(importlib.import_module(name), "__all__")]


def public_names():
    """Return pairs of a module and a name in its `__all__`, without submodules."""
    return [
        (module, name)
        for module in public_modules()
        for name in importlib.import_module(module).__all__
        if not inspect.ismodule(getattr(importlib.import_module(module), name))
    ]
