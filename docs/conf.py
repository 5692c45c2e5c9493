"""How the documentation is built: `make docs`, with warnings as errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import aff_jax  # noqa: E402

project = "aff_jax"
author = "The aff_jax maintainers"
project_copyright = author
version = release = aff_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "markdown_docstrings"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"aff_jax {version}"
html_copy_source = html_show_sphinx = False
# Okabe and Ito's blue, as in the plots.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
pygments_dark_style = "github-dark"

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    "show-inheritance": True,
}
# A signature of a linen module has a line for each field.
maximum_signature_line_length = 80
