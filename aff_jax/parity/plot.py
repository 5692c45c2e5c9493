"""Plot the errors of a comparison in the order in which the rows ran."""

import io
import math
from collections.abc import Sequence
from typing import Any

from aff_jax.parity.rows import Row

__all__ = ["plot_errors"]

_COLORS = {
    "#010203": "currentColor",
    "#0072b2": "var(--equal)",
    "#d55e00": "var(--different)",
}
"""Colors of the page by the fixed colors that Matplotlib needs.

In its SVG they are replaced by the colors of the page, which differ between light and dark mode.
"""

_TEXT, _EQUAL, _DIFFERENT = _COLORS


def plot_errors(rows: Sequence[Row], first: int | None) -> str:
    """Plot the relative error of each row on a logarithmic axis, beside what is allowed.

    Errors of exactly zero are hollow marks at the lower edge, and rows without a finite error are
    crosses at the upper edge, so that neither stretches the axis. Each mark is a link to the row
    "row-N", with N from 0.

    Args:
        rows: The rows in the order in which they ran.
        first: Position of the first mismatch, or None.

    Returns:
        An SVG element without a background, in the color of the text around it and the CSS
        variables "--equal" and "--different". Its groups have the ids "equal", "different",
        "zero", "not-compared", "allowed" and "mismatch".

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    errors = [row.max_rel for row in rows]
    allowed = [math.nan if row.max_rel is None else row.allowed_rel or math.nan for row in rows]
    levels = [x for x in (*errors, *allowed) if x is not None and 0 < x < math.inf] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(levels)) - 0.5)
    high = 10.0 ** math.ceil(math.log10(max(levels)) + 0.5)
    groups: dict[str, list[int]] = {"equal": [], "different": [], "zero": [], "not-compared": []}
    for place, row in enumerate(rows):
        if row.max_rel is None or not math.isfinite(row.max_rel):
            group = "not-compared"
        elif row.max_rel == 0 and not row.differs:
            group = "zero"
        else:
            group = "different" if row.differs else "equal"
        groups[group].append(place)
    styles: dict[str, dict[str, Any]] = {
        "equal": {"marker": "o", "s": 16, "color": _EQUAL},
        "different": {"marker": "D", "s": 20, "color": _DIFFERENT},
        "zero": {"marker": "v", "s": 20, "facecolors": "none", "edgecolors": _EQUAL},
        "not-compared": {"marker": "x", "s": 24, "color": _DIFFERENT},
    }
    heights = {"zero": low, "not-compared": high}
    texts = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = {"svg.hashsalt": "aff_jax", "svg.fonttype": "none"}
    settings |= dict.fromkeys(texts, _TEXT)
    content = io.StringIO()
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(10, 3), layout="constrained")
        axes = figure.add_subplot(yscale="log", ylim=(low, high), xlim=(-1, len(rows)))
        axes.set(ylabel="relative error", xlabel="activations in the order in which they ran")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=_TEXT, alpha=0.15)
        if first is not None:
            axes.axvline(first, color=_DIFFERENT, linewidth=1, gid="mismatch")
        edges = [i - 0.5 for i in range(len(rows) + 1)]
        line: dict[str, Any] = {"edgecolor": _TEXT, "linewidth": 1, "linestyle": "--"}
        axes.stairs(allowed, edges, baseline=None, gid="allowed", **line)
        for group, places in groups.items():
            y = [heights.get(group, errors[i] or low) for i in places]
            marks = axes.scatter(places, y, gid=group, clip_on=False, zorder=3, **styles[group])
            marks.set_urls([f"#row-{i}" for i in places])
        # No metadata, so that the file is the same in every run.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=nothing, transparent=True)
    svg = content.getvalue().replace(' target="_blank"', "")
    for color, value in _COLORS.items():
        svg = svg.replace(color, value)
    return svg[svg.index("<svg") :]  # HTML has no place for the XML declaration
