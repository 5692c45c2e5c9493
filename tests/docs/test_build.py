"""The documentation builds without a warning, links to what is there, and leaves nothing out."""

import ast
import importlib
import inspect
import itertools
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "docs"))

from markdown_docstrings import public_modules, signature_of, to_restructured_text  # noqa: E402

from aff_jax import AFF, create_fusion  # noqa: E402
from aff_jax.fusion.base import Fusion  # noqa: E402

PUBLIC = [
    (module, name)
    for module in public_modules()
    for name in importlib.import_module(module).__all__
    if not inspect.ismodule(getattr(importlib.import_module(module), name))
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages, as `make docs` builds them."""
    target = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(target)]
    built = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return target


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        self.links += [values[key] for key in ("href", "src") if values.get(key)]


class TestSite:
    def test_every_link_leads_to_a_page_and_a_place_in_it(self, site):
        pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
        assert len(pages) > 10
        for path, page in pages.items():
            for link in page.links:
                url = urlsplit(link)
                if url.scheme or url.netloc:
                    continue
                target = (path.parent / unquote(url.path)).resolve() if url.path else path
                assert target.exists(), f"{path.name} links to {link}"
                if target in pages:
                    assert unquote(url.fragment) in pages[target].anchors, f"{path.name}: {link}"

    def test_every_public_name_is_in_the_reference(self, site):
        """Under one path of those that it can be imported by, since it is one thing."""
        places = set().union(*(Page(path).anchors for path in site.glob("api/*.html")))
        paths = {}
        for module, name in PUBLIC:
            found = getattr(importlib.import_module(module), name)
            paths.setdefault((name, id(found)), []).append(f"{module}.{name}")
        absent = [names for names in paths.values() if not places.intersection(names)]
        assert absent == [], "add an automodule of these to a page of docs/api/"

    def test_every_page_is_in_the_table_of_contents(self, site):
        reached, left = set(), ["index.html"]
        while left:
            page = left.pop()
            if page not in reached:
                reached.add(page)
                links = [link.partition("#")[0] for link in Page(site / page).links]
                here = (site / page).parent
                inside = [here / x for x in links if x.endswith(".html") and "//" not in x]
                left += [str(x.resolve().relative_to(site.resolve())) for x in inside]
        sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
        assert {str(path.with_suffix(".html")) for path in sources} <= reached


def documented_values(module):
    """Names of values of a module that a string follows, which is where Sphinx looks."""
    body = ast.parse(Path(importlib.import_module(module).__file__).read_text()).body
    for line, following in itertools.pairwise(body):
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            targets = getattr(line, "targets", [getattr(line, "target", None)])
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_has_a_docstring(module, name):
    found = getattr(importlib.import_module(module), name)
    if (inspect.isclass(found) and found.__name__ == name) or inspect.isroutine(found):
        assert found.__doc__
    else:
        assert name in documented_values(module)


def converted(text, **links):
    return "\n".join(to_restructured_text(inspect.cleandoc(text).splitlines(), links))


def test_equations_stand_as_they_are_written():
    text = """A line.

        f(x) = `x` * y_
            + 1

    More."""
    expected = "A line.\n\n.. code-block:: text\n\n    f(x) = `x` * y_\n        + 1\n\nMore."
    assert converted(text) == expected


def test_code_becomes_a_literal_or_a_link_and_text_is_no_markup():
    text = "`x` of *spatial | z_(i) and `AFF`s, **bold**"
    expected = r"``x`` of \*spatial \| z\_(i) and :py:obj:`~a.AFF`\ s, **bold**"
    assert converted(text, AFF="a.AFF") == expected


def test_errors_become_fields():
    text = """A line.

    Raises:
        TypeError, OSError: `x` is
            wrong: so.
        ValueError: more."""
    expected = (
        "A line.\n\n\n:raises TypeError, OSError: ``x`` is\n        wrong: so.\n"
        ":raises ValueError: more."
    )
    assert converted(text) == expected


def test_signatures_stand_as_they_are_written():
    assert signature_of(create_fusion) == ("(name: str, **fields: Any)", "nn.Module")
    assert signature_of(Fusion) == (
        "(dtype: Dtype | None = None, remat: bool | str = False)",
        "",
    )
    arguments, result = signature_of(Fusion.__call__)
    assert arguments.startswith("(x: Float[Array, 'batch *spatial channels'], y: ")
    assert result == "Float[Array, 'batch *spatial channels']"
    # In the order of the constructor: those of a base come first.
    fields = signature_of(AFF)[0]
    assert fields.startswith("(reduction: int = 4, scales: Sequence[str] = ('local', 'global'), ")
    assert fields.endswith("gain: float = 1.0, combine: str = 'sum')")
