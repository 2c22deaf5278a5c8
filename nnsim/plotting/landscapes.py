"""Pictures of entropy landscapes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patheffects import withStroke

from nnsim.analysis.landscape.axes import Curve, Floats, Value, natural_value
from nnsim.analysis.landscape.input import Quantity
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.errors import InputError, require_kind, require_number, require_text, shown
from nnsim.plotting.style import COLORS, frame, new_axes, readable, styled, write_note


def plot_landscape(
    landscape: EntropyLandscape,
    equilibrium: Curve | None = None,
    ax: Axes | None = None,
    *,
    reference: Curve | None = None,
    training: Curve | None = None,
    value: Value | None = None,
    value_label: str | None = None,
    equilibrium_label: str = "equilibrium",
    reference_label: str = "reference",
    training_label: str = "training",
    span: float | None = None,
    note: str | None = None,
) -> Axes:
    """Draw S in one or two dimensions.

    Two dimensions: S as a colour, white where not visited, the first axis of the landscape to the right, with curves on
    top. One dimension: S as a line, with a band of one standard error on each side.

    Args:
        landscape: S with one or two axes; of three, see `plot_slices`, and of any number take
            `landscape.marginal(...)` or `slice(...)`.
        equilibrium: drawn as dots with error bars, from `landscape.equilibrium(...)` or `most_probable(...)`.
        ax: axes to draw in, or None for a figure of its own.
        reference: another curve to compare with, drawn as a white line (in one dimension, S itself, dashed).
        training: mean over training runs at the same value of the first CV, `training_curve(...).curve()`: a line with
            a band of one standard error on each side.
        value: function from the coordinate of the second axis to what is drawn upwards, the same as given to
            `landscape.equilibrium`; None draws the coordinate. The colour stays S, a density in the coordinate.
        value_label: label of the upward axis; None makes one from the name of the CV.
        equilibrium_label: its name in the legend.
        reference_label: its name in the legend.
        training_label: its name in the legend.
        span: range of the colours below the maximum, in nats; None takes all of S up to 60 nats and otherwise leaves
            out the lowest 5 % of the bins, so that a few of them do not take all the colours.
        note: a line above the picture, for example that the run has not converged.

    Raises:
        InputError: three axes, or an equilibrium or training curve on a landscape of one.
    """
    require_kind("plot_landscape", "landscape", landscape, EntropyLandscape, "EntropyLandscape.from_trajectory(...)")
    for name, one in (("equilibrium", equilibrium), ("reference", reference), ("training", training)):
        if one is not None:
            require_kind("plot_landscape", name, one, Curve, "a nnsim.analysis.Curve")
    labels = {"equilibrium_label": equilibrium_label, "reference_label": reference_label}
    for name, text in {**labels, "training_label": training_label, "value_label": value_label}.items():
        if text is not None:
            require_text("plot_landscape", name, text)
    if value is not None and (isinstance(value, type) or not callable(value)):
        raise InputError(
            f"plot_landscape: value = {shown(value)} must be a function of the CV, such as np.exp; give one"
        )
    if len(landscape.axes) > 2:
        raise InputError(
            f"plot_landscape: a landscape of {len(landscape.axes)} axes cannot be drawn; "
            f"take landscape.marginal(...) of one or two of {', '.join(landscape.names)}, or plot_slices of three"
        )
    for kind, curve in (("equilibrium", equilibrium), ("training", training)):
        if len(landscape.axes) == 1 and curve is not None:
            raise InputError(f"plot_landscape: the {kind} curve needs a landscape of two axes; leave it out")
    with styled():
        ax = ax or new_axes(1, 3.7)[0]
        if len(landscape.axes) == 1:
            _draw_line(ax, landscape, reference, reference_label, value_label)
        else:
            _draw_map(ax, landscape, value, value_label, span)
            if training is not None:
                _draw_band(ax, training, training_label)
            _draw_curves(ax, equilibrium, equilibrium_label, reference, reference_label)
        write_note(ax, note)
    return ax


def entropy_label(landscape: EntropyLandscape) -> str:
    """How S is written beside an axis."""
    return "entropy $S$ (nats)" if landscape.flat else r"ln Boltzmann weight, $-F/kT$"


def _draw_line(
    ax: Axes, landscape: EntropyLandscape, reference: Curve | None, label: str, value_label: str | None
) -> None:
    x, s = landscape.axes[0].centers, landscape.entropy
    if reference is not None:
        ax.plot(reference.x, reference.y, color="black", linestyle="--", label=label, zorder=3)
    ax.plot(x, s, color=COLORS[0], label="sampled" if landscape.runs == 1 else f"mean of {landscape.runs} runs")
    if landscape.error is not None:
        low, high = s - landscape.error, s + landscape.error
        ax.fill_between(x, low, high, color=COLORS[0], alpha=0.3, linewidth=0, label="standard error")
    ax.set_xlabel(readable(landscape.names[0]))
    ax.set_ylabel(value_label or entropy_label(landscape))
    frame(ax, (x[landscape.visited][0], x[landscape.visited][-1]))
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False)


def _draw_map(
    ax: Axes, landscape: EntropyLandscape, value: Value | None, value_label: str | None, span: float | None
) -> None:
    x, y = landscape.axes
    heights = y.edges if value is None else Quantity(value)(y.edges)
    s = landscape.entropy
    low, clipped = colour_floor(s[landscape.visited], span)
    mesh = ax.pcolormesh(
        x.edges, heights, np.ma.masked_invalid(s).T, cmap="viridis", vmin=low, vmax=0.0, rasterized=True
    )
    bar = ax.figure.colorbar(mesh, ax=ax, extend="min" if clipped else "neither", pad=0.02)
    bar.set_label(entropy_label(landscape))
    ax.set_xlabel(readable(x.name))
    name = y.name if value is None else natural_value(y.name)[1]
    ax.set_ylabel(value_label or readable(name))
    rows = np.flatnonzero(landscape.visited.any(axis=0))
    columns = np.flatnonzero(landscape.visited.any(axis=1))
    ax.set_xlim(x.edges[columns[0]], x.edges[columns[-1] + 1])
    ax.set_ylim(*sorted((heights[rows[0]], heights[rows[-1] + 1])))


def colour_floor(s: Floats, span: float | None) -> tuple[float, bool]:
    """Return the S that gets the darkest colour, and whether some bins are below it."""
    lowest = float(s.min())
    if span is not None:
        floor = -require_number("plot_landscape", "span", span, above=0.0)
    else:
        floor = lowest if lowest > -60 else float(np.percentile(s, 5))
    floor = min(floor, -1e-6)  # a single bin, or a flat S
    return floor, lowest < floor


def _draw_curves(
    ax: Axes, equilibrium: Curve | None, label: str, reference: Curve | None, reference_label: str
) -> None:
    # Light on dark and dark on light: a line with an outline is seen on every colour and on white.
    if reference is not None:
        outline = [withStroke(linewidth=3.4, foreground="black")]
        few = {"marker": "D", "markersize": 5.0} if len(reference.x) <= 20 else {}
        ax.errorbar(
            reference.x,
            reference.y,
            reference.error,
            color="white",
            linewidth=1.6,
            path_effects=outline,
            zorder=3,
            label=reference_label,
            **cast(Any, few),
        )
    if equilibrium is not None:
        _draw_dots(ax, equilibrium, label)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="best", framealpha=0.85, edgecolor="none", facecolor="#d9d9d9", handlelength=1.4, borderpad=0.35)


def _draw_band(ax: Axes, curve: Curve, label: str) -> None:
    """A line, one standard error on each side, and a white outline below both."""
    known = np.isfinite(curve.y)
    x, y = curve.x[known], curve.y[known]
    ax.plot(x, y, color="white", linewidth=3.6, zorder=3.3)
    if curve.error is not None:
        error = np.nan_to_num(curve.error[known])
        band = {"edgecolor": "white", "linewidth": 0.9, "zorder": 3.4}
        ax.fill_between(x, y - error, y + error, facecolor=to_rgba(COLORS[3], 0.6), **cast(Any, band))
    ax.plot(x, y, color=COLORS[3], linewidth=1.6, zorder=3.5, label=label)


def _draw_dots(ax: Axes, curve: Curve, label: str) -> None:
    known = np.isfinite(curve.y)
    x, y = curve.x[known], curve.y[known]
    # dots that overlap hide their edges: as many as there is room for
    size = float(np.clip(160 / max(len(x), 1), 3.5, 7.0))
    if curve.error is not None:
        error = curve.error[known]
        ax.errorbar(x, y, error, fmt="none", ecolor="white", elinewidth=2.6, zorder=4)
        ax.errorbar(x, y, error, fmt="none", ecolor=COLORS[1], elinewidth=1.2, zorder=4.1)
    ax.plot(
        x,
        y,
        "o",
        markersize=size,
        markerfacecolor=COLORS[1],
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4.2,
        label=label,
    )
