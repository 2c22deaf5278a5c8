"""Pictures of what a trajectory has recorded: time series, histograms and parameters."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.images import in_periodic_box, recorded_period
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_integer, require_number, require_texts
from nnsim.networks.layout import places_of
from nnsim.plotting.style import (
    COLORS,
    active_style,
    as_panels,
    frame,
    joined,
    label_steps,
    new_axes,
    readable,
    styled,
    write_note,
)

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

# Of what comes round, whose lines would cross the panel at each passage through the edge.
POINTS: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 1.5, "alpha": 0.6}


def plot_timeseries(
    trajectory: Trajectory,
    names: str | Sequence[str],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    max_walkers: int = 64,
    max_points: int = 2000,
    note: str | None = None,
) -> list[Axes]:
    """Draw observables in time, one panel each, the walkers faint and their mean in bold.

    What comes round, as a parameter in a periodic box, is drawn as points, without a mean.

    Args:
        trajectory: an open trajectory.
        names: scalar observables.
        ax: one axes for each name, or None for a figure of its own.
        max_walkers: at most so many walkers are drawn; the mean is that of all.
        max_points: a longer record is thinned out evenly to about so many points.
        note: a line above the picture.

    Raises:
        InputError: an observable that was not recorded (the message lists those that were) or is not a scalar.
    """
    trajectory, wanted = opened(trajectory, "plot_timeseries"), require_texts("plot_timeseries", "names", names)
    max_walkers = require_integer("plot_timeseries", "max_walkers", max_walkers, least=1)
    max_points = require_integer("plot_timeseries", "max_points", max_points, least=1)
    series = [_scalar(trajectory, name) for name in wanted]
    with styled():
        panels = as_panels(ax, len(wanted), "plot_timeseries")
        for panel, name, (step, values) in zip(panels, wanted, series, strict=True):
            stride = max(1, math.ceil(len(step) / max_points))
            x, y = step[::stride], values[::stride]
            shown = y[:, :max_walkers]
            single = y.shape[1] == 1
            marker = "." if len(x) == 1 else ""  # a line through one frame would be invisible
            if recorded_period(trajectory[name]) is not None:
                panel.plot(x, shown, color=COLORS[0], **POINTS)
                panel.set_ylabel(_fitting(readable(name), panel))
                frame(panel, (x[0], x[-1]))
                continue
            if not single:
                faint = to_rgba(COLORS[0], float(np.clip(3 / shown.shape[1], 0.08, 0.5)))
                labels = ["one walker"] + [f"_walker {w}" for w in range(1, shown.shape[1])]  # one line in the legend
                panel.plot(x, shown, color=faint, linewidth=0.7, marker=marker, label=labels)
            color, label = COLORS[0] if single else "black", f"mean of {y.shape[1]}"
            panel.plot(x, _mean_of_known(y), color=color, marker=marker, label=label, zorder=3)
            panel.set_ylabel(_fitting(readable(name), panel))
            frame(panel, (x[0], x[-1]))
        several = panels[0].get_legend_handles_labels()[1] != [] and len(panels[0].lines) > 1
        if several:  # above the panel, where there are no data
            place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "borderpad": 0.0, "borderaxespad": 0.2}
            panels[0].legend(frameon=False, handlelength=1.4, ncols=2, **cast(Any, place))
        label_steps(panels, "step")
        write_note(panels[0], note, pad=22.0 if several else 6.0)
    return panels


def plot_histogram(
    trajectory: Trajectory,
    names: str | Sequence[str],
    ax: Axes | None = None,
    *,
    last: float = 1.0,
    bins: int = 60,
    note: str | None = None,
) -> Axes:
    """Draw the histogram of the values that an observable, or a pair of them, has taken over all walkers.

    Args:
        trajectory: an open trajectory.
        names: one or two scalar observables; a pair is counted at the steps at which both were recorded.
        ax: axes to draw in, or None for a figure of its own.
        last: the fraction of the record that counts, from its end, above 0 and at most 1; 0.5 is the last half.
        bins: number of bins along each axis, at least 1.
        note: a line above the picture.

    Raises:
        InputError: an observable that was not recorded or is not a scalar, more than two of them, a pair that was never
            recorded at the same step, or a fraction outside (0, 1].
    """
    trajectory, wanted = opened(trajectory, "plot_histogram"), require_texts("plot_histogram", "names", names)
    if not 1 <= len(wanted) <= 2:
        raise InputError(f"plot_histogram: {len(wanted)} observables; give one or two")
    fraction = require_number("plot_histogram", "last", last, above=0.0)
    if fraction > 1:
        raise InputError(f"plot_histogram: last = {last:g} must be at most 1, the whole record; change last")
    count = require_integer("plot_histogram", "bins", bins, least=1)
    data = _values_together([_scalar(trajectory, name) for name in wanted], wanted, fraction)
    with styled():
        ax = ax or new_axes(1, 3.7)[0]
        ax.set_xlabel(readable(wanted[0]))
        if len(wanted) == 1:
            ax.hist(data[0], count, color=COLORS[0], histtype="stepfilled", alpha=0.9)
            ax.set_ylabel("frames × walkers")
            ax.spines[["top", "right"]].set_visible(False)
        else:
            mesh = ax.hist2d(data[0], data[1], count, cmin=1, cmap="viridis", rasterized=True)[3]
            ax.set_ylabel(readable(wanted[1]))
            ax.figure.colorbar(mesh, ax=ax, pad=0.02).set_label("frames × walkers")
        write_note(ax, note)
    return ax


def plot_parameters(
    trajectory: Trajectory,
    walker: int = 0,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    max_traces: int = 12,
    max_panels: int = 8,
    max_points: int = 2000,
    note: str | None = None,
) -> list[Axes]:
    """Draw the parameters of one walker in time, a panel for each of the network's tensors.

    Args:
        trajectory: an open trajectory with recorded positions.
        walker: index of the walker.
        ax: one axes for each panel, or None for a figure of its own.
        layers: names of the tensors to draw; None takes the first `max_panels`.
        max_traces: at most so many parameters of each tensor, evenly spread over it.
        max_panels: see `layers`.
        max_points: a longer record is thinned out evenly to about so many points.
        note: a line above the picture.

    Raises:
        InputError: no recorded positions, a walker or tensor that does not exist.
    """
    trajectory = opened(trajectory, "plot_parameters")
    most = {"max_traces": max_traces, "max_panels": max_panels, "max_points": max_points}
    max_traces, max_panels, max_points = (
        require_integer("plot_parameters", name, number, least=1) for name, number in most.items()
    )
    walker = require_integer("plot_parameters", "walker", walker, least=0)
    positions, places = trajectory.positions, places_of(trajectory.header["parameters"])
    if positions is None or not len(positions.step):
        raise InputError(
            "plot_parameters: the trajectory has no positions; set positions_every, and run at least so long"
        )
    walkers = positions.shape[1]
    if not 0 <= walker < walkers:
        raise InputError(f"plot_parameters: walker = {walker} must be one of 0 to {walkers - 1}; change walker")
    wanted = list(places)[:max_panels] if layers is None else require_texts("plot_parameters", "layers", layers)
    unknown = [name for name in wanted if name not in places]
    if unknown or not wanted:
        raise InputError(f"plot_parameters: no parameter {', '.join(unknown)!r}; choose from {', '.join(places)}")
    stride = max(1, math.ceil(len(positions.step) / max_points))
    step, values = np.asarray(positions.step)[::stride], np.asarray(positions[::stride, walker])
    look: dict[str, Any] = POINTS if in_periodic_box(trajectory.header) else {"linewidth": 0.9, "alpha": 0.8}
    with styled():
        panels = as_panels(ax, len(wanted), "plot_parameters")
        for panel, name in zip(panels, wanted, strict=True):
            first = places[name].start
            size = places[name].stop - first
            shown = np.unique(np.linspace(0, size - 1, min(size, max_traces)).round().astype(int))
            for trace, index in enumerate(shown):
                panel.plot(step, values[:, first + index], color=COLORS[trace % len(COLORS)], **look)
            panel.set_ylabel(name)
            label = f"{len(shown)} of {size}" if len(shown) < size else f"all {size}"
            panel.annotate(label, (1.01, 0.5), xycoords="axes fraction", rotation=270, va="center", fontsize=11)
            frame(panel, (step[0], step[-1]))
        label_steps(panels, f"step (walker {walker})")
        left_out = f"{len(wanted)} of {len(places)} tensors" if layers is None and len(wanted) < len(places) else None
        write_note(panels[0], joined(note, left_out))
    return panels


def _fitting(label: str, panel: Axes) -> str:
    """The label of a panel in lines no longer than the panel is high; formulas, which are short, stay whole."""
    height = panel.get_position().height * cast(Figure, panel.get_figure(root=True)).get_figheight()
    letters = max(6, int(10.5 * height / active_style().scale))  # of 12 points, less than 0.1 inches each
    return label if "$" in label else textwrap.fill(label, letters)


def _scalar(trajectory: Trajectory, name: str) -> tuple[Any, Floats]:
    """Return the steps [T] and values [T, W] of a scalar observable."""
    if name not in trajectory.observables:
        listed = ", ".join(trajectory.observables) or "none"
        raise InputError(f"plot: the trajectory has no observable {name!r}; it has: {listed}")
    series = trajectory[name]
    values, step = np.asarray(series[...], dtype=np.float64), np.asarray(series.step)
    if values.ndim == 1:  # one number for all walkers
        values = values[:, None]
    size = math.prod(values.shape[2:])
    if size != 1:
        raise InputError(f"plot: {name!r} has {size} numbers for each walker; choose a scalar observable")
    # a reader of a run that is still being written may see one frame more here than there
    count = min(len(step), len(values))
    if not count:
        raise InputError(f"plot: {name!r} has no frames yet; run longer")
    return step[:count], values[:count].reshape(count, -1)


def _mean_of_known(values: Floats) -> Floats:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.divide(np.where(known, values, 0).sum(axis=1), count, out=np.full(len(values), np.nan), where=count > 0)


def _values_together(series: list[tuple[Any, Floats]], names: list[str], fraction: float) -> list[Floats]:
    """Return the finite values of the observables at the steps they share, walkers and frames in one row each."""
    steps = series[0][0]
    for other, _ in series[1:]:
        steps = np.intersect1d(steps, other)
    if not len(steps):
        raise InputError(
            f"plot_histogram: {' and '.join(names)} were never recorded at the same step; draw them one by one"
        )
    steps = steps[min(int((1 - fraction) * len(steps)), len(steps) - 1) :]
    rows = [values[np.isin(step, steps)] for step, values in series]
    walkers = max(row.shape[1] for row in rows)
    flat = np.stack([np.broadcast_to(row, (len(steps), walkers)).reshape(-1) for row in rows])
    flat = flat[:, np.isfinite(flat).all(axis=0)]
    if not flat.shape[1]:
        raise InputError(f"plot_histogram: {' and '.join(names)} have no finite value in the frames asked for")
    return list(flat)
