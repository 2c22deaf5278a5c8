"""Pictures of sweeps: a map over two settings, a line over one."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.training.sweep_table import SweepGrid, is_numeric, label
from nnsim.errors import InputError, require_choice, require_flag, require_kind
from nnsim.plotting.style import COLORS, active_style, joined, new_axes, readable, styled, write_note

SCALES = ("even", "linear", "log")
MOST_WRITTEN = 60  # cells of a map with their values written in them
LETTERS = (7.0, 12.0)  # points, smallest and largest, of what is written in a cell
LONGEST = 16  # letters of a text beside an axis
GREY = "0.88"


def plot_sweep(
    grid: SweepGrid,
    ax: Axes | None = None,
    *,
    x_scale: str | None = None,
    y_scale: str | None = None,
    log: bool = False,
    note: str | None = None,
) -> Axes:
    """Draw a column of a sweep: over two settings a map, over one a line with a bar of one standard error.

    Each cell of a map is one pair of settings. Up to 60 cells have their values written in them, with the standard
    errors below where there is room; cells without a result are hatched, and a line above says how many and why.

    Args:
        grid: from `SweepTable.mean_over_seeds`.
        ax: axes to draw in, or None for a figure of its own.
        x_scale: `"even"` gives all values of the setting the same room, `"linear"` and `"log"` draw them to scale;
            None is even for a map, and for a line linear where the setting is a number.
        y_scale: the same for the second setting; a line has none.
        log: logarithmic colours of a map, or a logarithmic axis of values of a line.
        note: a line above the picture, before the one on missing cells.

    Raises:
        InputError: an unknown scale, one that does not fit the values of the setting, values that have no logarithm,
            or a grid without any result.
    """
    require_kind("plot_sweep", "grid", grid, SweepGrid, "what mean_over_seeds of a SweepTable gives")
    log = require_flag("plot_sweep", "log", log)
    if not np.isfinite(grid.mean).any():
        raise InputError(f"plot_sweep: no point has a result of {grid.value} yet; wait until the first is done")
    if log and np.nanmin(grid.mean) <= 0:
        least = float(np.nanmin(grid.mean))
        raise InputError(f"plot_sweep: {grid.value} = {least:.4g} has no logarithm; leave log (--log) out")
    with styled():
        ax = ax or new_axes(1, 3.9 if grid.y is not None else 3.2)[0]
        if grid.y is None:
            if y_scale is not None:
                raise InputError("plot_sweep: y_scale needs two settings; for the values of a line take log (--log)")
            _draw_line(ax, grid, _scale("x_scale", x_scale, grid.x, grid.x_values, line=True), log)
        else:
            x = _scale("x_scale", x_scale, grid.x, grid.x_values)
            y = _scale("y_scale", y_scale, grid.y, grid.y_values)
            _draw_map(ax, grid, x, y, log)
        write_note(ax, joined(note, missing(grid)))
    return ax


def missing(grid: SweepGrid) -> str | None:
    """What to say of cells without a result; None where all have one."""
    empty = grid.seeds == 0
    failed = int(np.count_nonzero(empty & (grid.failed > 0)))
    left = int(np.count_nonzero(empty)) - failed
    parts = [f"{number} {why}" for number, why in ((failed, "failed"), (left, "without a result")) if number]
    where = "hatched" if grid.y is not None else "not drawn"
    return f"{where}: {', '.join(parts)}" if parts else None


def column_label(name: str) -> str:
    """How a column of a sweep's table is written beside an axis."""
    for end, words in (("_first", ", first frame"), ("_last", ", last frame")):
        if name.endswith(end):
            return readable(name.removesuffix(end)) + words
    return readable(name)


def seeds_label(grid: SweepGrid) -> str | None:
    """Such as `mean of 3 seeds`; None where no cell has more than one."""
    counts = grid.seeds[grid.seeds > 0]
    fewest, most = int(counts.min()), int(counts.max())
    if most == 1:
        return None
    return f"mean of {most} seeds" if fewest == most else f"mean of {fewest} to {most} seeds"


# ------------------------------------------------------------------------------------------------------------ scales


def _scale(option: str, scale: str | None, name: str, values: tuple[Any, ...], line: bool = False) -> str:
    if scale is None:
        return "linear" if line and is_numeric(values) else "even"
    require_choice("plot_sweep", option, scale, SCALES)
    if scale != "even" and not is_numeric(values):
        raise InputError(f"plot_sweep: {option} = {scale!r} needs numbers, but {name} has others; take 'even'")
    if scale == "log" and min(values) <= 0:
        raise InputError(f"plot_sweep: {option} = 'log' needs {name} above 0, not {label(min(values))}; take another")
    return scale


def _places(values: tuple[Any, ...], scale: str) -> Floats:
    return np.arange(len(values), dtype=np.float64) if scale == "even" else np.array(values, dtype=np.float64)


def _edges(values: tuple[Any, ...], scale: str) -> Floats:
    """Edges half-way between the values, and as far beyond the outer ones."""
    places = _places(values, scale)
    if scale == "log":
        return np.asarray(np.exp(_half_way(np.log(places))))
    return _half_way(places)


def _half_way(places: Floats) -> Floats:
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    middle = 0.5 * (places[1:] + places[:-1])
    return np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])


def _label_values(ax: Axes, which: str, name: str, values: tuple[Any, ...], scale: str) -> None:
    """The values themselves as ticks."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    if scale == "log":
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    texts = [f"{value:g}" if is_numeric([value]) else _short(label(value)) for value in values]
    axis.set_ticks(_places(values, scale), texts, minor=False)
    axis.set_ticks([], minor=True)
    axis.set_tick_params(which="both", length=3)
    axis.set_label_text(readable(name))
    if which == "x" and len(texts) > 1:
        _turn(ax, values, scale, texts)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _turn(ax: Axes, values: tuple[Any, ...], scale: str, texts: list[str]) -> None:
    """Turn labels that would touch each other."""
    edges = _edges(values, scale)
    places = _places(values, scale)
    if scale == "log":
        edges, places = np.log(edges), np.log(places)
    closest = np.diff(places).min() / (edges[-1] - edges[0]) * 0.72 * active_style().width  # inches
    if closest < 0.1 * active_style().scale * (
        max(map(len, texts)) + 1
    ):  # letters of 12 points are about 0.1 inches wide
        for text in ax.get_xticklabels():
            text.set(rotation=90 if closest < 0.25 else 45, ha="right" if closest >= 0.25 else "center")
            text.set_rotation_mode("anchor" if closest >= 0.25 else "default")


# --------------------------------------------------------------------------------------------------------------- line


def _draw_line(ax: Axes, grid: SweepGrid, scale: str, log: bool) -> None:
    known = np.isfinite(grid.mean)
    places, mean, error = _places(grid.x_values, scale)[known], grid.mean[known], np.nan_to_num(grid.error[known])
    words = seeds_label(grid)
    name = f"{words}, standard error" if words else "one run, standard error over its walkers"
    ax.errorbar(places, mean, error, fmt="o-", color=COLORS[0], capsize=2.5, markersize=5, label=name)
    _label_values(ax, "x", grid.x, grid.x_values, scale)
    if scale == "even":
        ax.set_xlim(-0.5, len(grid.x_values) - 0.5)
    if log:
        ax.set_yscale("log")
    ax.set_ylabel(column_label(grid.value))
    ax.spines[["top", "right"]].set_visible(False)
    if error.any():
        ax.legend(frameon=False)


# ---------------------------------------------------------------------------------------------------------------- map


def _draw_map(ax: Axes, grid: SweepGrid, x_scale: str, y_scale: str, log: bool) -> None:
    x, y = _edges(grid.x_values, x_scale), _edges(grid.y_values, y_scale)
    low, high = float(np.nanmin(grid.mean)), float(np.nanmax(grid.mean))
    norm = LogNorm(low, high) if log else Normalize(low, high)
    if low == high:  # a single result: any colours will do
        norm = Normalize(low - 0.5, high + 0.5)
    drawn = np.ma.masked_invalid(grid.mean).T
    mesh = ax.pcolormesh(x, y, drawn, cmap="viridis", norm=norm, edgecolors="white", linewidth=0.6)
    for column, row in np.argwhere(grid.seeds == 0):
        corner, width, height = (x[column], y[row]), x[column + 1] - x[column], y[row + 1] - y[row]
        ax.add_patch(Rectangle(corner, width, height, facecolor=GREY, edgecolor="0.55", hatch="///", linewidth=0))
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    if not log:
        bar.formatter.set_powerlimits((-3, 5))  # type: ignore[attr-defined]
        bar.formatter.set_useMathText(True)  # type: ignore[attr-defined]
    words = seeds_label(grid)
    bar.set_label(column_label(grid.value) + (f"\n({words})" if words else ""))
    assert grid.y is not None
    _label_values(ax, "x", grid.x, grid.x_values, x_scale)
    _label_values(ax, "y", grid.y, grid.y_values, y_scale)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if grid.mean.size <= MOST_WRITTEN:
        _write_values(ax, grid, mesh, x, y)


def _write_values(ax: Axes, grid: SweepGrid, mesh: Any, x: Floats, y: Floats) -> None:
    """Each value in its cell, in letters as large as the smallest cell allows."""
    figure: Any = ax.get_figure(root=True)
    figure.draw_without_rendering()  # the layout, and with it the size of the cells, is known only then
    corners = ax.transData.transform([(at, y[0]) for at in x]), ax.transData.transform([(x[0], at) for at in y])
    width = float(np.diff(corners[0][:, 0]).min()) * 72 / figure.dpi  # points
    height = float(np.diff(corners[1][:, 1]).min()) * 72 / figure.dpi
    plain = _texts(grid, errors=False)
    both = _texts(grid, errors=True)
    size, texts = _fit(plain, width, height), plain
    if _fit(both, width, height) >= min(size, LETTERS[0] + 2):
        size, texts = _fit(both, width, height), both
    if size < LETTERS[0]:
        return
    for (column, row), text in texts.items():
        place = _middle(x, column, ax.get_xscale()), _middle(y, row, ax.get_yscale())
        shade = np.dot(mesh.to_rgba(grid.mean[column, row])[:3], (0.299, 0.587, 0.114))
        ax.text(*place, text, ha="center", va="center", fontsize=size, color="black" if shade > 0.5 else "white",
                linespacing=1.05)  # fmt: skip


def _texts(grid: SweepGrid, errors: bool) -> dict[tuple[int, int], str]:
    """Texts of all cells with a result, with as many decimals as tell the cells apart, or as the errors have."""
    known, known_errors = grid.mean[np.isfinite(grid.mean)], grid.error[np.nan_to_num(grid.error) > 0]
    largest, spread = float(np.abs(known).max()), float(np.ptp(known))
    plain = largest == 0 or 1e-2 <= largest < 1e5
    finest = float(np.median(known_errors)) if errors and len(known_errors) else 0.1 * (spread or largest or 1.0)
    decimals = min(max(-math.floor(math.log10(finest)), 0), 6)
    found = {}
    for cell in np.argwhere(np.isfinite(grid.mean)):
        place = cast(tuple[int, int], tuple(cell.tolist()))
        mean, error = float(grid.mean[place]), float(grid.error[place])
        small = mean and abs(mean) < 0.01 * largest  # as with colours on a logarithmic scale
        text = f"{mean:.{decimals}f}" if plain and not small else f"{mean:.3g}"
        if errors and math.isfinite(error):
            same = plain and not small and error >= 0.5 * 10.0**-decimals
            text += f"\n±{error:.{decimals}f}" if same else f"\n±{error:.1g}"
        found[place] = text
    return found


def _fit(texts: dict[tuple[int, int], str], width: float, height: float) -> float:
    """Size of letters, in points, with which all texts fit into a cell; letters are 0.64 as wide as high."""
    lines = [text.split("\n") for text in texts.values()]
    longest = max(len(line) for text in lines for line in text)
    most = max(map(len, lines))
    return min(active_style().letters, 0.9 * width / (0.64 * longest), 0.85 * height / (1.2 * most))


def _middle(edges: Floats, index: int, scale: str) -> float:
    low, high = float(edges[index]), float(edges[index + 1])
    return math.sqrt(low * high) if scale == "log" else 0.5 * (low + high)
