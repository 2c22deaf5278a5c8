"""Entropy landscapes of three CVs: maps of two of them at several values of the third."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Axis, natural_value
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.errors import InputError, require_integer, require_kind
from nnsim.plotting.landscapes import colour_floor, entropy_label
from nnsim.plotting.style import fitted, readable, small_multiples, styled, write_above, write_note

OWNER = "plot_slices"


def plot_slices(
    landscape: EntropyLandscape,
    ax: Sequence[Axes] | None = None,
    *,
    along: str | int = -1,
    count: int = 9,
    values: Sequence[float] | None = None,
    span: float | None = None,
    note: str | None = None,
) -> list[Axes]:
    """Draw S of three CVs as maps of two of them, each at one value of the third, with one scale of colours.

    Each map is S in one bin of the third CV, not a sum over several, and white where not visited. The two CVs of the
    maps keep their order: the first of them is to the right.

    Args:
        landscape: S with three axes.
        ax: one axes for each map, or None for a figure of its own.
        along: name or index of the third CV; by default the last one.
        count: at most so many maps, at bins evenly spread over those visited; at least 1.
        values: of the third CV, one for each map, instead of `count`; each stands for the bin that holds it.
        span: range of the colours below the maximum, in nats; see `plot_landscape`.
        note: a line above the first map.

    Returns:
        The axes of the maps, in the order of the values.

    Raises:
        InputError: another number of axes, an unknown CV, a value outside the grid or in a bin not visited.
    """
    require_kind(OWNER, "landscape", landscape, EntropyLandscape, "EntropyLandscape.from_trajectory(...)")
    if len(landscape.axes) != 3:
        raise InputError(f"{OWNER}: a landscape of {len(landscape.axes)} axes has no slices; give one of three")
    third = landscape.axis_index(along)
    axis = landscape.axes[third]
    entropy = np.moveaxis(landscape.entropy, third, 0)
    bins = _bins(
        axis, np.asarray(np.isfinite(entropy).any(axis=(1, 2))), require_integer(OWNER, "count", count, least=1), values
    )
    x, y = (one for place, one in enumerate(landscape.axes) if place != third)
    shown = entropy[bins]
    low, clipped = colour_floor(shown[np.isfinite(shown)], span)
    value, name = natural_value(axis.name)
    with styled():
        panels = small_multiples(len(bins), ax, OWNER)
        for panel, chosen, s in zip(panels, bins, shown, strict=True):
            mesh = panel.pcolormesh(
                x.edges, y.edges, np.ma.masked_invalid(s).T, cmap="viridis", vmin=low, vmax=0.0, rasterized=True
            )
            panel.set_title(f"{_digits(float(value(axis.centers[chosen])), axis.width)}", pad=3.0)
        frame_all(panels, x, y, np.logical_or.reduce(np.isfinite(shown)))
        label_grid(panels, readable(x.name), readable(y.name))
        figure = panels[0].figure
        bar = figure.colorbar(mesh, ax=panels, pad=0.02, extend="min" if clipped else "neither")
        bar.set_label(entropy_label(landscape))
        if ax is None:
            write_above(cast(Figure, panels[0].get_figure(root=True)), f"slices at {readable(name)} =", note)
        else:
            write_note(panels[0], note, pad=22.0)
    return panels


def label_grid(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label the axes at the left and lower edge of small multiples once, and given axes each."""
    figure, cells = cast(Figure, panels[0].get_figure(root=True)), [panel.get_subplotspec() for panel in panels]
    shared = len(panels) > 1 and panels[0].get_shared_x_axes().joined(panels[0], panels[-1]) and all(cells)
    if shared:
        figure.supxlabel(x, fontsize="medium")
        figure.supylabel(fitted(y, 0.8 * figure.get_figheight()), fontsize="medium")
        return
    for panel in panels:
        panel.set_xlabel(x)
        panel.set_ylabel(y)


def _bins(axis: Axis, visited: NDArray[np.bool_], count: int, values: Sequence[float] | None) -> list[int]:
    """The bins of the third CV that are drawn."""
    if values is None:
        known = np.flatnonzero(visited)
        spread = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
        return [int(one) for one in known[np.unique(spread)]]
    if not len(values):
        raise InputError(f"{OWNER}: values is empty; give at least one, or None")
    chosen = [axis.bin_of(float(value)) for value in values]
    for value, place in zip(values, chosen, strict=True):
        if not visited[place]:
            low, high = axis.centers[visited][[0, -1]]
            raise InputError(
                f"{OWNER}: {axis.name} = {value:g} was not visited; choose values between {low:g} and {high:g}"
            )
    return chosen


def _digits(value: float, width: float) -> str:
    """To a tenth of the width of a bin."""
    digits = max(0, int(np.ceil(-np.log10(width))))
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # not -0.0


def frame_all(panels: Sequence[Axes], x: Axis, y: Axis, visited: NDArray[np.bool_]) -> None:
    """The same limits for all, around what was visited anywhere."""
    columns, rows = np.flatnonzero(visited.any(axis=1)), np.flatnonzero(visited.any(axis=0))
    for panel in panels:
        panel.set_xlim(x.edges[columns[0]], x.edges[columns[-1] + 1])
        panel.set_ylim(y.edges[rows[0]], y.edges[rows[-1] + 1])
