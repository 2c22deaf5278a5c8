"""How a bias fills the landscape: its table, or the S it has learnt, at several moments of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import require_choice, require_integer
from nnsim.plotting.landscapes import colour_floor, entropy_label
from nnsim.plotting.slices import frame_all, label_grid
from nnsim.plotting.style import (
    as_panels,
    frame,
    readable,
    small_multiples,
    step_bar,
    step_colors,
    styled,
    write_above,
    write_note,
)
from nnsim.plotting.tables import BiasTables

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "plot_growth"
QUANTITIES = ("bias", "entropy")
MAPS, LINES = 6, 8  # moments drawn by default


def plot_growth(
    trajectory: Trajectory | str | Path,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    bias: str | None = None,
    along: str | int | None = None,
    quantity: str = "bias",
    times: int | None = None,
    note: str | None = None,
) -> list[Axes]:
    r"""Draw a Wang-Landau, metadynamics or OPES bias at several moments: lines along one CV, or maps of two.

        bias        V(s, t) / kT;  along one of several CVs  ln mean_y exp(V(x, y, t) / kT)  over the bins y
        entropy     S(s, t) = V / kT (well-tempered: times gamma / (gamma - 1)), its largest value 0;
                    along one of several CVs  ln sum_y exp S(x, y, t)

    Only bins visited until then are drawn; in the mean, the others count with V = 0. The bias shows how the landscape
    fills, the entropy how it converges. Lines go from dark, early, to light, late; maps share one scale of colours.

    Args:
        trajectory: of the run, with snapshots of its bias, or its path.
        ax: axes to draw in, one or, for maps, one for each moment; None for a figure of its own.
        bias: its name, if there are several.
        along: name or index of the CV along which lines are drawn; None draws maps of a bias of two CVs, and lines
            along the first one otherwise.
        quantity: `"bias"` or `"entropy"`.
        times: at most so many moments, at least 1 and evenly spread; by default 8 lines or 6 maps.
        note: a line above the picture.

    Returns:
        The axes drawn in.

    Raises:
        InputError: no such bias, no snapshot yet, an unknown CV or quantity.

    Reference: F. Wang and D. P. Landau, Phys. Rev. Lett. 86, 2050 (2001), for the rule by which the bias grows.
    """
    kind = require_choice(OWNER, "quantity", quantity, QUANTITIES)
    tables = BiasTables(opened(trajectory), bias)
    maps = along is None and len(tables.axes) == 2
    count = require_integer(OWNER, "times", (MAPS if maps else LINES) if times is None else times, least=1)
    chosen = tables.spread(count)
    label = "bias $V/kT$" if kind == "bias" else entropy_label(tables.final)
    with styled():
        if maps:
            panels = small_multiples(len(chosen), None if ax is None else _listed(ax), OWNER)
            _draw_maps(panels, tables, chosen.tolist(), kind, label)
        else:
            panels = as_panels(ax, 1, OWNER)
            axis = tables.final.axis_index(0 if along is None else along)
            _draw_lines(panels[0], tables, chosen.tolist(), kind, axis)
            panels[0].set_ylabel(label)
        if maps and ax is None:
            write_above(cast(Figure, panels[0].get_figure(root=True)), None, note)
        else:
            write_note(panels[0], note, pad=22.0 if maps else 6.0)
    return panels


def _listed(ax: Axes | Sequence[Axes]) -> list[Axes]:
    return [ax] if isinstance(ax, Axes) else list(ax)


def bias_along(values: Floats, axis: int) -> Floats:
    """V / kT on all bins, NaN where not visited, as a function of one CV: ln of the mean of exp(V / kT) over others."""
    others = tuple(place for place in range(values.ndim) if place != axis)
    known = np.isfinite(values)
    if not others:
        return values
    bins = values.size // values.shape[axis]
    line = np.logaddexp.reduce(np.where(known, values, 0.0), axis=others) - np.log(bins)
    return np.where(known.any(axis=others), line, np.nan)


def _draw_lines(panel: Axes, tables: BiasTables, chosen: list[int], kind: str, axis: int) -> None:
    colors, scale = step_colors(tables.steps[chosen])
    x = tables.axes[axis].centers
    for index, color in zip(chosen, colors, strict=True):
        entropy = kind == "entropy"
        line = tables.landscape(index).marginal(axis).entropy if entropy else bias_along(tables.at(index), axis)
        line[~np.isfinite(line)] = np.nan  # a gap
        panel.plot(x, line, color=color, linewidth=1.4, label=f"step {tables.steps[index]}")
    panel.set_xlabel(readable(tables.names[axis]))
    visited = np.flatnonzero(tables.final.marginal(axis).visited)
    frame(panel, (x[visited[0]], x[visited[-1]]))
    panel.locator_params(axis="x", nbins=6)
    step_bar(panel, scale)


def _draw_maps(panels: list[Axes], tables: BiasTables, chosen: list[int], kind: str, label: str) -> None:
    shown = [tables.landscape(index).entropy if kind == "entropy" else tables.at(index) for index in chosen]
    if kind == "entropy":
        known = np.concatenate([s[np.isfinite(s)] for s in shown])
        low, clipped = colour_floor(known, None)
        high = 0.0
    else:
        low, high, clipped = 0.0, max(float(np.nanmax(s)) for s in shown), False
    x, y = tables.axes
    for panel, index, values in zip(panels, chosen, shown, strict=True):
        mesh = panel.pcolormesh(
            x.edges, y.edges, np.ma.masked_invalid(values).T, cmap="viridis", vmin=low, vmax=high, rasterized=True
        )
        panel.set_title(short_step(int(tables.steps[index])), pad=3.0, fontsize="small")
    frame_all(panels, x, y, np.logical_or.reduce([np.isfinite(values) for values in shown]))
    label_grid(panels, readable(x.name), readable(y.name))
    bar = panels[0].figure.colorbar(mesh, ax=panels, pad=0.02, extend="min" if clipped else "neither")
    bar.set_label(label)


def short_step(step: int) -> str:
    """A step as it is written above a small picture: `step 200000`, or `step 2 x 10^6`."""
    if step < 100_000:
        return f"step {step}"
    exponent = len(str(step)) - 1
    return rf"step ${step / 10**exponent:.3g} \times 10^{{{exponent}}}$"
