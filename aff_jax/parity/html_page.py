"""Format a comparison as an HTML page that works without a network and without scripts."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aff_jax.parity.plot import plot_errors
from aff_jax.parity.rows import Row
from aff_jax.parity.verdict import COLUMNS, format_row, outcome

if TYPE_CHECKING:  # `Parity.to_html` calls this module.
    from aff_jax.parity import result

__all__ = ["format_page"]

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1b1b1b; --line: #ddd; --mark: #fff3d6;
  --equal: #0069a6; --different: #b34700; --undecided: #5c5c5c }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --text: #e6e6e6; --line: #3a3d42;
  --mark: #4a3b12; --equal: #5cb8f0; --different: #ff9d5c; --undecided: #b0b0b0 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 76rem;
  background: var(--page); color: var(--text); overflow-wrap: anywhere }
h1 { margin: 0; padding-left: .6rem; border-left: .4rem solid }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .3rem }
p { max-width: 50rem }
a { color: var(--equal) }
.equal { color: var(--equal) }
.different { color: var(--different) }
.undecided { color: var(--undecided) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 }
dt { font-weight: 600 }
dd { margin: 0 }
@media (max-width: 40rem) { dl { display: block } dd { margin-bottom: .4rem } }
figure { margin: 0 }
figcaption { font-size: .9rem; max-width: 50rem }
.scroll { overflow-x: auto; overflow-wrap: normal }
svg { display: block; width: 100%; min-width: 40rem; height: auto }
input { font: inherit; width: 100%; max-width: 24rem; padding: .2rem .5rem }
table { border-collapse: collapse; font-size: 13px; width: 100% }
td, th { padding: .15rem .8rem .15rem 0; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
tbody th { padding-top: .6rem }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0 }
th button::before { content: "\\25BE\\00A0" }
th button[aria-expanded=false]::before { content: "\\25B8\\00A0" }
tr.different td { font-weight: 600 }
tr:target td { background: var(--mark) }
"""
"""Style sheet of the page.

Its blue and vermilion can be told apart by color-blind readers, and are dark or light enough for
text.
"""

_SCRIPT = """
const blocks = [...document.querySelectorAll("tbody")], input = document.querySelector("input");
function show() {
  const text = input.value.trim().toLowerCase();
  for (const block of blocks) {
    const button = block.querySelector("button"), rows = [...block.querySelectorAll("tr[id]")];
    const folded = !text && button && button.getAttribute("aria-expanded") === "false";
    const fits = rows.map(row => row.textContent.toLowerCase().includes(text));
    rows.forEach((row, i) => { row.hidden = folded || !fits[i]; });
    block.hidden = !fits.some(Boolean);
  }
}
for (const head of document.querySelectorAll("tbody th")) {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  button.setAttribute("aria-expanded", "true");
  button.onclick = () => {
    button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") === "false");
    show();
  };
  head.replaceChildren(button);
}
function reveal() {
  const row = location.hash && document.getElementById(location.hash.slice(1));
  if (!row || !row.hidden) return;
  const button = row.parentNode.querySelector("button");
  if (button) button.setAttribute("aria-expanded", "true");
  input.value = "";
  show();
  row.scrollIntoView();
}
input.oninput = show;
window.onhashchange = reveal;
document.querySelector("#filter").hidden = false;
"""
"""Script of the page. Without it, every row is visible, and there is no filter."""

_CAPTION = """Each mark is an activation and leads to its row. Dots are equal, diamonds differ.
Hollow triangles at the lower edge have an error of exactly zero. Crosses at the upper edge could
not be compared or are not finite. Dashed: what is allowed; vertical line: first mismatch."""


def format_page(parity: result.Parity, title: str) -> str:
    """Format a comparison as a page, as `Parity.to_html` describes.

    Args:
        parity: Result of a comparison.
        title: Title of the page.

    Returns:
        The page.
    """
    word = outcome(parity)
    first = parity.first_mismatch
    place = None if first is None else _find(parity.rows, first)
    jump = "" if place is None else f'<p><a href="#row-{place}">Go to the first mismatch</a></p>'
    about = {**parity.about, "dtype": parity.dtype}
    items = "".join(f"<dt>{_escape(k)}</dt><dd>{_escape(v)}</dd>" for k, v in about.items())
    explanation = parity.explanation and (
        f'<h2>Explanation</h2>\n<p id="explanation">{_escape(parity.explanation)}</p>'
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", *COLUMNS))
    body = "\n".join(_format_blocks(parity.rows))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{word}: {_escape(title)}</title>
<style>{_STYLE}</style></head><body>
<p>{_escape(title)}</p>
<h1 class="{word.lower()}">{word}</h1>
<p id="verdict">{_escape(parity.verdict.partition(": ")[2])}</p>
{jump}
{explanation}
<h2>What was compared</h2>
<dl>{items}</dl>
<h2>Errors</h2>
{_plot_or_note(parity.rows, place)}
<h2>Activations</h2>
<p id="filter" hidden><label>Show rows with <input type="search" placeholder="conv1, differs">
</label></p>
<div class="scroll" role="region" aria-label="Activations" tabindex="0">
<table><thead><tr>{head}</tr></thead>
{body}
</table></div>
<script>{_SCRIPT}</script></body></html>
"""


def _find(rows: Sequence[Row], row: Row) -> int:
    """Return the position of a row, compared by identity."""
    return next(place for place, other in enumerate(rows) if other is row)


def _format_blocks(rows: Sequence[Row]) -> list[str]:
    """Format the rows as one body of the table for each block that ran."""
    # A block is a module with submodules. Other modules have no title of their own.
    blocks = {row.path.partition("/")[0] for row in rows if "/" in row.path}

    def block_of(place: int) -> str:
        name = rows[place].path.partition("/")[0]
        return name if name in blocks else ""

    bodies = []
    for block, places in itertools.groupby(range(len(rows)), block_of):
        lines = [_format_line(place, rows[place]) for place in places]
        if block:
            count = len(COLUMNS) + 1
            differing = sum(' class="different"' in line for line in lines)
            note = f", {differing} of {len(lines)} differ" if differing else ""
            title = f"{_escape(block)}{note}"
            lines.insert(0, f'<tr><th scope="rowgroup" colspan="{count}">{title}</th></tr>')
        bodies.append("\n".join(["<tbody>", *lines, "</tbody>"]))
    return bodies


def _format_line(place: int, row: Row) -> str:
    """Format a row as a line of the table, with an id to link to."""
    kind, mark = (' class="different"', "differs") if row.differs else ("", "")
    cells = "".join(f"<td>{_escape(cell)}</td>" for cell in (mark, *format_row(row)))
    return f'<tr id="row-{place}"{kind}>{cells}</tr>'


def _plot_or_note(rows: Sequence[Row], first: int | None) -> str:
    """Return the plot, or a note that matplotlib is missing."""
    try:
        plot = plot_errors(rows, first)
    except ImportError as error:
        return (
            "<p>No plot: it needs matplotlib, which cannot be imported "
            f"({_escape(str(error))}). Install the extra 'parity' of aff_jax.</p>"
        )
    return (
        f'<figure>\n<div class="scroll" role="region" aria-label="Plot of the errors" tabindex="0">'
        f"{plot}</div>\n<figcaption>{_CAPTION}</figcaption></figure>"
    )


def _escape(text: str) -> str:
    """Escape a text, with the parts between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
