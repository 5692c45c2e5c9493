"""Configuration of Sphinx for `make docs`, which treats warnings as errors."""

import ast
import inspect
import sys
import textwrap
import typing
from pathlib import Path
from typing import Any

# With this, jaxtyping prints an annotation as `Float[Array, "batch channels"]` instead of as the
# class that it makes. Set it before jaxtyping is imported.
typing.GENERATING_DOCUMENTATION = "jaxtyping"  # type: ignore[attr-defined]
sys.path.insert(0, str(Path(__file__).parent.parent))

import flax.linen as nn  # noqa: E402

import aff_jax  # noqa: E402

project = "aff_jax"
author = "The aff_jax maintainers"
project_copyright = author
version = release = aff_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"aff_jax {version}"
html_copy_source = html_show_sphinx = False
# Blue of the palette of Okabe and Ito, which the plots use too.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
pygments_dark_style = "github-dark"

myst_heading_anchors = 3

# Docstrings are reStructuredText in Google style; `name` in single backticks is code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    "show-inheritance": True,
}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
# A signature of a linen module has one line per field.
maximum_signature_line_length = 80


def module_signature(
    app: Any, what: str, name: str, documented: Any, *_: Any
) -> tuple[str, str] | None:
    """Return the fields of a linen module as its source declares them, or None for other objects.

    The signature that autodoc finds has the fields `parent` and `name` of `nn.Module` as well, and
    shows functions that are defaults by their address.
    """
    if not (inspect.isclass(documented) and issubclass(documented, nn.Module)):
        return None
    declared = {}
    for base in reversed(documented.__mro__):
        if issubclass(base, nn.Module) and base is not nn.Module:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            for line in tree.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    declared[line.target.id] = ast.unparse(line)
    fields = [field for field in inspect.signature(documented).parameters if field in declared]
    return f"({', '.join(declared[field] for field in fields)})", ""


def skip_default(app: Any, what: str, name: str, member: Any, *_: Any) -> bool | None:
    """Skip a field whose default value has a docstring, such as `norm`: the signature shows it."""
    return True if what == "class" and getattr(member, "__name__", name) != name else None


def setup(app: Any) -> None:
    """Connect the functions above to the events of Sphinx."""
    app.connect("autodoc-process-signature", module_signature)
    app.connect("autodoc-skip-member", skip_default)
