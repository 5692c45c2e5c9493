"""A comparison on paper: as a table, as JSON, and as one HTML page with a plot."""

import dataclasses
import html
import json
import math
import re

from aff_jax.parity.comparison import Parity, Row

__all__ = ["to_html", "to_json", "to_text"]

# Blue and vermilion of Okabe and Ito's palette, which colour-blind readers tell apart.
WITHIN, BEYOND = "#0072B2", "#D55E00"


def to_text(parity: Parity) -> str:
    """A line a layer, and the verdict."""
    header = ("", "PyTorch", "ours", "call", "shape", "max abs", "max rel")
    table = [header]
    for row in parity.rows:
        mark = "!" if parity.differs(row) else ""
        table.append((mark, row.name or "(output)", row.path or "(output)", *_cells(row)))
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in table]
    return "\n".join([*lines, "", verdict(parity)])


def to_json(parity: Parity) -> str:
    """{"equal", "dtype", "tolerance", "first_mismatch", "not_compared", "rows"}; NaN is null."""
    first = parity.first_mismatch

    def as_dict(row: Row) -> dict[str, object]:
        numbers = {"max_abs": _finite(row.max_abs), "max_rel": _finite(row.max_rel)}
        return {**dataclasses.asdict(row), **numbers, "within": not parity.differs(row)}

    content = {
        "equal": parity.equal,
        "dtype": parity.dtype,
        "tolerance": parity.tolerance,
        "first_mismatch": None if first is None else as_dict(first),
        "not_compared": list(parity.unmatched),
        "rows": [as_dict(row) for row in parity.rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def to_html(parity: Parity, title: str = "Parity") -> str:
    """One page that needs nothing else: verdict, plot of error against depth, table."""
    rows = []
    for row in parity.rows:
        kind = ' class="beyond"' if parity.differs(row) else ""
        cells = (row.name or "(output)", row.path or "(output)", *_cells(row))
        rows.append(f"<tr{kind}>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    names = ("PyTorch", "ours", "call", "shape", "max abs", "max rel")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem }}
table {{ border-collapse: collapse; font-size: 13px }}
td, th {{ padding: .15rem .7rem .15rem 0; text-align: left; border-bottom: 1px solid #ddd }}
td:nth-child(n+3) {{ font-variant-numeric: tabular-nums; white-space: nowrap }}
.beyond td {{ color: {BEYOND}; font-weight: 600 }}
svg text {{ font: 12px system-ui, sans-serif }}
</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(verdict(parity))}</p>
{_plot(parity)}
<table><thead><tr>{head}</tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></body></html>
"""


def verdict(parity: Parity) -> str:
    """What came out, in a sentence or two."""
    first = parity.first_mismatch
    if first is None and not parity.equal:
        return f"Undecided: the outputs were not compared.{_not_compared(parity)}"
    compared = [row for row in parity.rows if row.max_rel is not None]
    terms = f"in {parity.dtype}, tolerance {parity.tolerance:.0e} of each layer's largest value"
    if first is None:
        worst = max(compared, key=lambda row: row.max_rel or 0.0)
        return (
            f"Equal: {len(compared)} activations {terms}; the largest error is "
            f"{worst.max_rel:.1e}, at {worst.path or 'the output'}.{_not_compared(parity)}"
        )
    beyond = sum(parity.differs(row) for row in parity.rows)
    why = first.note or f"error {first.max_rel:.1e}"
    where = f"{first.path or 'the output'}, call {first.call} (PyTorch's {first.name or 'output'})"
    return (
        f"Different: {beyond} of {len(parity.rows)} activations part {terms}. "
        f"First: {where}, {why}.{_pass_of_fusion(first)}{_not_compared(parity)}"
    )


def _not_compared(parity: Parity) -> str:
    if not parity.unmatched:
        return ""
    listed = ", ".join(parity.unmatched[:5]) + (" ..." if len(parity.unmatched) > 5 else "")
    return f" Not compared, for want of a counterpart: {len(parity.unmatched)} layers ({listed})."


def _pass_of_fusion(row: Row) -> str:
    """Which pass of a fusion a row belongs to, where it belongs to one after the first."""
    branch = re.fullmatch(r"(.*?)/?(?:local|global)(\d*)(?:/.*)?", row.path)
    weights = re.fullmatch(r"(.*?)/?sigmoid", row.path)
    if branch and (branch[2] or row.call > 1):
        fusion, number = branch[1], int(branch[2] or row.call)
    elif weights and row.call > 1:
        fusion, number = weights[1], row.call
    else:
        return ""
    return (
        f" That is pass {number} of the fusion {fusion or 'itself'}, where the references differ: "
        f"is `reference` the one that the weights were trained with?"
    )


def _cells(row: Row) -> tuple[str, str, str, str]:
    shape = "x".join(map(str, row.shape))
    if row.max_abs is None or row.max_rel is None:
        return str(row.call), shape, row.note, ""
    return str(row.call), shape, f"{row.max_abs:.1e}", f"{row.max_rel:.1e}"


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _plot(parity: Parity, width: int = 1000, height: int = 260) -> str:
    """Relative error against depth, logarithmic, as SVG; zeros lie on the lowest line."""
    points = [(i, row) for i, row in enumerate(parity.rows) if _finite(row.max_rel) is not None]
    errors = [row.max_rel for _, row in points if row.max_rel]
    levels = [math.log10(e) for e in [*errors, parity.tolerance, 1e-16] if 0 < e < math.inf]
    low, high = math.floor(min(levels)) - 1, math.ceil(max(levels)) + 1
    left, bottom, top = 60, height - 40, 10

    def x(index: int) -> float:
        return left + (width - left - 10) * (index + 0.5) / max(len(parity.rows), 1)

    def y(level: float) -> float:
        return bottom - (bottom - top) * (level - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="error against depth">']
    for level in range(low, high + 1):
        parts.append(
            f'<line x1="{left}" x2="{width - 10}" y1="{y(level):.1f}" y2="{y(level):.1f}" '
            f'stroke="#eee"/><text x="{left - 8}" y="{y(level) + 4:.1f}" text-anchor="end">'
            f"1e{level}</text>"
        )
    shown = 0 < parity.tolerance < math.inf
    limit = y(math.log10(parity.tolerance)) if shown else y(low)
    if parity.first_mismatch is not None:
        place = x(list(parity.rows).index(parity.first_mismatch))
        parts.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{bottom}" stroke="{BEYOND}"/>'
        )
    parts.append(
        f'<line x1="{left}" x2="{width - 10}" y1="{limit:.1f}" y2="{limit:.1f}" stroke="#555" '
        f'stroke-dasharray="6 4"/>'
    )
    for index, row in points:
        height_of = y(math.log10(row.max_rel) if row.max_rel else low)
        color = BEYOND if parity.differs(row) else WITHIN
        label = html.escape(f"{row.path or '(output)'}: {row.max_rel:.1e}")
        parts.append(
            f'<circle cx="{x(index):.1f}" cy="{height_of:.1f}" r="3" fill="{color}">'
            f"<title>{label}</title></circle>"
        )
    parts.append(
        f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">layers in the order '
        f"in which they run; relative error; dashed: tolerance; upright: the first that parts"
        "</text></svg>"
    )
    return "\n".join(parts)
