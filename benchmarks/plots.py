"""Plots of benchmarks: speeds with one row per case and one marker per side, and bar charts."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

__all__ = ["draw_seconds", "draw_sides"]

# The palette of Okabe and Ito. The marker also identifies a side, for readers who see no colors.
AFF_JAX_STYLES = (("#0072B2", "o"), ("#56B4E9", "D"), ("#009E73", "P"))
TORCH_STYLES = {
    "PyTorch": ("#D55E00", "s"),
    "PyTorch channels-last": ("#E69F00", "^"),
    "torch.compile": ("#000000", "X"),
}


def draw_sides(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], label: str, path: Path
) -> None:
    """Plot values by side on a logarithmic axis, with a line at 1.

    Args:
        panels: By title of the panel and label of the case, values by side.
        label: Label of the axis.
        path: PNG file to write.
    """
    sides = list(dict.fromkeys(s for cases in panels.values() for v in cases.values() for s in v))
    free_styles = iter(AFF_JAX_STYLES)
    styles = {side: TORCH_STYLES.get(side) or next(free_styles) for side in sides}
    found = [v for cases in panels.values() for values in cases.values() for v in values.values()]
    ticks = (1, 2, 5) if max(found) / min(found) > 30 else (1, 1.5, 2, 3, 5, 7)
    rows = [len(cases) for cases in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(8.0, 1.5 + sum(0.75 + 0.3 * count for count in rows)),
        height_ratios=[1 + count for count in rows],
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for axis, (title, cases) in zip(axes[:, 0], panels.items(), strict=True):
        for row, values in enumerate(cases.values()):
            for side, value in values.items():
                color, marker = styles[side]
                axis.plot(value, row, marker, color=color, markersize=8, alpha=0.85)
        axis.axvline(1, color="#777777", linewidth=1, zorder=0)
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_yticks(range(len(cases)), list(cases))
        axis.set_ylim(len(cases) - 0.5, -0.5)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=ticks))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[-1, 0].set_xlabel(label)
    for side, (color, marker) in styles.items():
        axes[0, 0].plot([], [], marker, color=color, markersize=8, label=side)
    figure.legend(loc="outside upper center", ncols=min(3, len(styles)), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_seconds(panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Plot seconds as horizontal bars.

    Args:
        panels: By title of the panel, seconds by label of the bar.
        path: PNG file to write.
    """
    rows = [len(values) for values in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(8.0, 0.6 + sum(0.75 + 0.3 * count for count in rows)),
        height_ratios=[1 + count for count in rows],
        layout="constrained",
        squeeze=False,
    )
    for axis, (title, values) in zip(axes[:, 0], panels.items(), strict=True):
        bars = axis.barh(
            list(values), list(values.values()), color=AFF_JAX_STYLES[0][0], height=0.6
        )
        axis.bar_label(bars, fmt="%.2g s", padding=3)
        axis.margins(x=0.12)
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("seconds")
    figure.savefig(path, dpi=150)
    plt.close(figure)
