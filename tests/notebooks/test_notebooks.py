"""Every notebook runs from top to bottom and shows the kinds of output that are committed."""

import re

import nbformat
import pytest

from tests.notebooks.execute import NOTEBOOKS, ROOT, execute

README = (ROOT / "notebooks" / "README.md").read_text()
LARGEST = 1_000_000
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(tmp|work|home|root|Users|private|usr|opt|mnt)/")

SMALLER = {
    "drop_in": {"EPOCHS = 8": "EPOCHS = 1"},
    "fusion_weights": {'= 1.5, 0.2, "cosine"': '= 0.5, 0.1, "cosine"'},
    "one_chip_to_many": {"STEPS, BATCH = 30, 64": "STEPS, BATCH = 5, 64"},
    "which_fusion": {"config.epochs = 3.0": "config.epochs, config.warmup_epochs = 0.5, 0.1"},
}
"""Code of notebooks, and the shorter training that the test runs instead."""

EVERY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """Return the kinds of output of a cell: names of streams, and MIME types.

    The `text/plain` of a picture, "<Figure ...>", does not count.
    """
    shown = set()
    for output in cell.outputs:
        types = {output.get("name")} if "name" in output else set(output.data)
        shown |= types - {"text/plain"} or types
    return shown


def texts(notebook):
    """Yield the text of all sources and outputs."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", ()):
            yield output.get("text", "")
            data = output.get("data", {})
            yield from ("".join(data[kind]) for kind in data if kind.startswith("text/"))


@pytest.mark.slow
@EVERY
def test_runs_and_shows_the_same_kinds_of_output(path):
    executed = execute(path, SMALLER.get(path.stem))
    for committed, new in zip(code_cells(read(path)), code_cells(executed), strict=True):
        assert kinds(new) == kinds(committed), committed.source


@EVERY
def test_opens_with_a_title_and_an_answer(path):
    cell = read(path).cells[0]
    assert cell.cell_type == "markdown"
    title, *paragraphs = [part for part in cell.source.split("\n\n") if part.strip()]
    assert re.fullmatch(r"# [^\n]+", title)
    (answer,) = [part for part in paragraphs if part.startswith("**Answer:** ")]
    assert answer.endswith("."), answer


@EVERY
def test_was_run_once_from_top_to_bottom_without_errors_and_warnings(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert "Traceback" not in str(output)


@EVERY
def test_is_small_and_has_no_paths_of_a_machine(path):
    assert path.stat().st_size < LARGEST
    notebook = read(path)
    for text in texts(notebook):
        assert not MACHINE_PATH.search(text), text
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in notebook.cells)


@EVERY
def test_has_outputs(path):
    assert any(kinds(cell) for cell in code_cells(read(path)))


def test_table_has_a_row_for_each_notebook():
    listed = re.findall(r"^\|[^|]+\| \[\w+\.ipynb\]\((\w+\.ipynb)\) \|", README, flags=re.MULTILINE)
    assert sorted(listed) == [path.name for path in NOTEBOOKS]


@EVERY
def test_links_lead_to_files(path):
    sources = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", sources):
        assert (path.parent / target).exists(), target
