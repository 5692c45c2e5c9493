"""A Sphinx extension: docstrings in Markdown, and signatures as they stand in the source.

Sphinx reads docstrings as reStructuredText. Ours are the Markdown that reads well in a terminal:
`code` in single backticks, equations and examples indented by four spaces, "Raises:" with a line or
more for each error. Code that names what the reference documents becomes a link to it.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn

import aff_jax

__all__ = ["public_modules", "setup", "signature_of", "to_restructured_text"]

INDENT = "    "
CODE = re.compile(r"``?([^`]+)``?")
TEXT, VERBATIM, RAISES = "text", "verbatim", "raises"


def public_modules() -> list[str]:
    """Names of the library's modules that say what is public, packages before what is in them.

    The commands are for a shell, not for import: `aff-jax --help` documents them.
    """
    found = pkgutil.walk_packages(aff_jax.__path__, f"{aff_jax.__name__}.")
    names = [aff_jax.__name__, *(module.name for module in found)]
    names = [name for name in names if not name.startswith("aff_jax.cli")]
    return [name for name in names if hasattr(importlib.import_module(name), "__all__")]


def _links() -> dict[str, str]:
    """Paths of public names, by the shortest import; none for a name that stands for several."""
    paths: dict[str, str] = {}
    objects: dict[str, Any] = {}
    for module in sorted(public_modules(), key=lambda name: name.count(".")):
        library = importlib.import_module(module)
        for name in library.__all__:
            found = getattr(library, name)
            if objects.setdefault(name, found) is not found:
                paths[name] = ""
            elif not inspect.ismodule(found):
                paths.setdefault(name, f"{module}.{name}")
    return {name: path for name, path in paths.items() if path}


def to_restructured_text(lines: Sequence[str], links: Mapping[str, str]) -> Iterator[str]:
    """The lines of a docstring in Markdown, as Sphinx reads them."""
    kind = TEXT
    for number, line in enumerate(lines):
        if not line.strip():
            yield ""
            continue
        if not line.startswith(INDENT):
            kind = RAISES if line == "Raises:" else TEXT
        elif kind == TEXT and not lines[number - 1].strip():
            kind = VERBATIM
            language = "pycon" if line.strip().startswith(">>>") else "text"
            yield from (f".. code-block:: {language}", "")
        if kind == VERBATIM:
            yield line
        elif kind == TEXT:
            yield _inline(line, links)
        elif line == "Raises:":
            yield ""
        elif line.startswith(2 * INDENT):  # the error before goes on
            yield _inline(line, links)
        else:
            errors, _, reason = line.strip().partition(": ")
            yield f":raises {errors}: {_inline(reason, links)}"


def _inline(line: str, links: Mapping[str, str]) -> str:
    """A line of text: code becomes a link or a literal, and what only looks like markup is none."""
    parts = CODE.split(line)
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = f":py:obj:`~{links[part]}`" if part in links else f"``{part}``"
            continue
        part = re.sub(r"(?<![*\w])\*(?=\w)", r"\\*", part)  # *spatial, but not **bold**
        part = re.sub(r"(\w)_(?!\w)", r"\1\\_", part).replace("|", r"\|")  # z_(i + 1)
        # Code ends in front of a space or punctuation, and otherwise only where this is written.
        parts[index] = f"\\ {part}" if index and part[:1].isalnum() else part
    return "".join(parts)


def signature_of(documented: Any) -> tuple[str, str] | None:
    """Arguments and result of a function, or the fields of a linen module, as they are written."""
    if inspect.isclass(documented):
        return (_fields_of(documented), "") if issubclass(documented, nn.Module) else None
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(documented)))
    except (TypeError, OSError):
        return None
    (function, *_) = ast.parse(source).body
    if not isinstance(function, ast.FunctionDef):
        return None
    for arguments in (function.args.posonlyargs, function.args.args):
        if arguments and arguments[0].arg in ("self", "cls"):
            del arguments[0]
    result = ast.unparse(function.returns) if function.returns else ""
    return f"({ast.unparse(function.args)})", result


def _fields_of(module: type[nn.Module]) -> str:
    """Fields in the order in which the constructor takes them; not those that linen adds."""
    written: dict[str, str] = {}
    for base in reversed(module.__mro__):
        if issubclass(base, nn.Module) and base is not nn.Module:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            for line in tree.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    written[line.target.id] = ast.unparse(line)
    names = [name for name in inspect.signature(module).parameters if name in written]
    return f"({', '.join(written[name] for name in names)})"


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    links = _links()

    def read(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        lines[:] = to_restructured_text(lines, links)

    def sign(app: Any, what: str, name: str, obj: Any, *_: Any) -> tuple[str, str] | None:
        return signature_of(obj)

    def skip(app: Any, what: str, name: str, obj: Any, *_: Any) -> bool | None:
        # A field whose default has a docstring of its own, as `norm` has: the signature shows it.
        return True if what == "class" and getattr(obj, "__name__", name) != name else None

    app.connect("autodoc-process-docstring", read)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
