"""Reports of a comparison: text, JSON, and an HTML page with a plot."""

import dataclasses
import html
import io
import json
import math
import re

from aff_jax.parity.comparison import Parity
from aff_jax.parity.rows import Row

__all__ = ["to_html", "to_json", "to_text", "verdict"]

# Blue and vermilion of Okabe and Ito's palette, which is safe for color-blind readers.
EQUAL, DIFFERENT = "#0072B2", "#D55E00"

COLUMNS = ("PyTorch", "Flax", "call", "shape", "max abs", "max rel")


def to_text(parity: Parity) -> str:
    """Format a table with one line per activation, followed by the verdict.

    Lines that begin with "!" differ.

    Args:
        parity: Result of a comparison.

    Returns:
        The text, without a final newline.
    """
    table: list[tuple[str, ...]] = [("", *COLUMNS)]
    table += [("!" if row.differs else "", *_cells(row)) for row in parity.rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in table]
    return "\n".join([*lines, "", verdict(parity)])


def to_json(parity: Parity) -> str:
    """Format a comparison as JSON.

    The keys are "equal", "dtype", "tolerance", "first_mismatch" (a row or null), "explanation",
    "unmatched" and "rows". A row has the fields of `Row` and "differs". NaN and infinity are null.

    Args:
        parity: Result of a comparison.

    Returns:
        The JSON text.
    """
    first = parity.first_mismatch

    def as_dict(row: Row) -> dict[str, object]:
        fields = ("max_abs", "max_rel", "allowed")
        numbers = {field: _finite(getattr(row, field)) for field in fields}
        return {**dataclasses.asdict(row), **numbers, "differs": row.differs}

    content = {
        "equal": parity.equal,
        "dtype": parity.dtype,
        "tolerance": parity.tolerance,
        "first_mismatch": None if first is None else as_dict(first),
        "explanation": parity.explanation,
        "unmatched": list(parity.unmatched),
        "rows": [as_dict(row) for row in parity.rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def to_html(parity: Parity, title: str = "Parity") -> str:
    """Format a comparison as a self-contained HTML page with a plot and a table.

    The plot has the relative error of each activation. It needs matplotlib; without it, the page
    has a note instead.

    Args:
        parity: Result of a comparison.
        title: Title of the page.

    Returns:
        The page.
    """
    rows = []
    for row in parity.rows:
        kind = ' class="different"' if row.differs else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row))
        rows.append(f"<tr{kind}>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem }}
table {{ border-collapse: collapse; font-size: 13px }}
td, th {{ padding: .15rem .7rem .15rem 0; text-align: left; border-bottom: 1px solid #ddd }}
td:nth-child(n+3) {{ font-variant-numeric: tabular-nums; white-space: nowrap }}
.different td {{ color: {DIFFERENT}; font-weight: 600 }}
svg {{ width: 100%; height: auto }}
</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(verdict(parity))}</p>
{_plot_or_note(parity)}
<table><thead><tr>{head}</tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></body></html>
"""


def verdict(parity: Parity) -> str:
    """Describe the outcome of a comparison in one or two sentences.

    Args:
        parity: Result of a comparison.

    Returns:
        The sentences. They name the first mismatch, if any.
    """
    first = parity.first_mismatch
    if first is None and not parity.equal:
        return f"Undecided: the outputs were not compared.{_not_compared(parity)}"
    compared = [row for row in parity.rows if row.max_rel is not None]
    terms = f"in {parity.dtype}, {_describe_tolerance(parity)}"
    if first is None:
        worst = max(compared, key=lambda row: row.max_rel or 0.0)
        return (
            f"Equal: {len(compared)} activations {terms}; the largest error is "
            f"{worst.max_rel:.1e}, at {worst.path or 'the output'}.{_not_compared(parity)}"
        )
    count = sum(row.differs for row in parity.rows)
    why = first.note or f"error {first.max_rel:.1e}"
    where = f"{first.path or 'the output'}, call {first.call} (PyTorch's {first.name or 'output'})"
    cause = f" {parity.explanation}" if parity.explanation else ""
    return (
        f"Different: {count} of {len(parity.rows)} activations differ {terms}. "
        f"First mismatch: {where}, {why}.{cause}{_pass_of_fusion(first)}{_not_compared(parity)}"
    )


def _describe_tolerance(parity: Parity) -> str:
    if parity.tolerance is not None:
        return f"tolerance {parity.tolerance:.0e} of each layer's largest value"
    allowed = max((row.allowed for row in parity.rows), default=0.0)
    noise = f"where rounding explains up to {allowed:.0e} of a layer's largest value"
    if parity.is_too_noisy:
        noise += ", which may hide a mistake: compare in float64"
    return noise


def _not_compared(parity: Parity) -> str:
    if not parity.unmatched:
        return ""
    listed = ", ".join(parity.unmatched[:5]) + (" ..." if len(parity.unmatched) > 5 else "")
    return f" Not compared, as they have no counterpart: {len(parity.unmatched)} layers ({listed})."


def _pass_of_fusion(row: Row) -> str:
    """Name the pass of a fusion that a row belongs to, if it is not the first one."""
    branch = re.fullmatch(r"(.*?)/?(?:local|global)(\d*)(?:/.*)?", row.path)
    weights = re.fullmatch(r"(.*?)/?sigmoid", row.path)
    if branch and (branch[2] or row.call > 1):
        fusion, number = branch[1], int(branch[2] or row.call)
    elif weights and row.call > 1:
        fusion, number = weights[1], row.call
    else:
        return ""
    return (
        f" This is pass {number} of the fusion {fusion or 'itself'}, where the references differ. "
        f"Check that `reference` is the one that the weights were trained with."
    )


def _cells(row: Row) -> tuple[str, ...]:
    """Format the columns of a row."""
    shape = "x".join(map(str, row.shape))
    cells = (row.name or "(output)", row.path or "(output)", str(row.call), shape)
    if row.max_abs is None or row.max_rel is None:
        return (*cells, row.note, "")
    return (*cells, f"{row.max_abs:.1e}", f"{row.max_rel:.1e}")


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _plot_or_note(parity: Parity) -> str:
    try:
        return _plot(parity)
    except ImportError as error:
        return (
            "<p>No plot: it needs matplotlib, which cannot be imported "
            f"({html.escape(str(error))}). Install the extra 'parity' of aff_jax.</p>"
        )


def _plot(parity: Parity) -> str:
    """Plot the relative error of each activation on a logarithmic axis.

    Returns:
        An SVG element. Its groups have the ids "equal", "different", "tolerance" and
        "first-mismatch".

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    points = [(i, row) for i, row in enumerate(parity.rows) if _finite(row.max_rel) is not None]
    errors = [row.max_rel for _, row in points if row.max_rel]
    levels = [e for e in (*errors, parity.tolerance or 0.0, 1e-16) if 0 < e < math.inf]
    # Errors of 0 are drawn at the lower edge.
    low, high = 10.0 ** math.floor(math.log10(min(levels)) - 1), 10 * max(levels)

    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.add_subplot(
        yscale="log", ylim=(low, high), xlim=(-1, len(parity.rows)), ylabel="relative error"
    )
    axes.set_xlabel("activations in order; dashed: tolerance; vertical line: first mismatch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="0.9")
    if parity.tolerance is not None and 0 < parity.tolerance < math.inf:
        axes.axhline(parity.tolerance, color="0.4", linestyle="--", gid="tolerance")
    if parity.first_mismatch is not None:
        place = list(parity.rows).index(parity.first_mismatch)
        axes.axvline(place, color=DIFFERENT, linewidth=1, gid="first-mismatch")
    for gid, color, differs in (("equal", EQUAL, False), ("different", DIFFERENT, True)):
        chosen = [(i, row.max_rel or low) for i, row in points if row.differs == differs]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.plot(x, y, "o", markersize=4, color=color, gid=gid, clip_on=False)

    content = io.StringIO()
    # A fixed salt and no metadata, so that the file is the same in every run.
    with matplotlib.rc_context({"svg.hashsalt": "aff_jax", "svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=nothing)
    svg = content.getvalue()
    return svg[svg.index("<svg") :]  # HTML has no place for the XML declaration
