"""The documentation builds without a warning, has no broken links, and covers every public name."""

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

from tests.docs.documents import ROOT
from tests.docs.public_names import public_names

PUBLIC = public_names()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the pages as `make docs` does."""
    target = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(target)]
    built = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    printed = built.stdout + built.stderr
    assert built.returncode == 0, printed
    assert not printed, printed
    return target


class Page(HTMLParser):
    """The links, anchors and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.text = [], {""}, ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        self.links += [values[key] for key in ("href", "src") if values.get(key)]

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
class TestSite:
    def test_every_link_has_a_target(self, site):
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
        """A name that can be imported from several modules needs to be there once."""
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

    def test_signatures_are_readable(self, site):
        """Shapes are those of the source, and linen's own fields are not shown."""
        text = " ".join(Page(site / "api" / "aff_jax.html").text.split())
        assert "x: Float[Array, 'batch *spatial channels']" in text
        assert "activation: Callable[[Array], Array] = nn.relu" in text
        assert "_Sentinel" not in text
        assert " object at 0x" not in text


def documented_values(module):
    """Yield the names of module-level values that a string follows, which is where Sphinx looks."""
    body = ast.parse(Path(importlib.import_module(module).__file__).read_text()).body
    for line, following in itertools.pairwise(body):
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            targets = getattr(line, "targets", [getattr(line, "target", None)])
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_every_public_name_has_a_docstring():
    for module, name in PUBLIC:
        found = getattr(importlib.import_module(module), name)
        defined = inspect.isclass(found) or inspect.isroutine(inspect.unwrap(found))
        if defined and found.__name__ == name:
            assert found.__doc__, f"{module}.{name}"
        else:
            assert name in documented_values(module), f"{module}.{name}"
