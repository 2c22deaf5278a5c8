"""Pictures of landscapes and trajectories.

Every function draws into the axes it is given, or makes a figure of its own that no window and no global state knows
of, and returns the axes; `save` writes the figure. Sizes are chosen so that a picture printed at the width of one
column, 3.4 inches, has letters of 8 points. This is the only module that imports matplotlib.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nnsim.analysis.axes import Curve, Floats, Value, natural_value
from nnsim.analysis.landscape import EntropyLandscape
from nnsim.errors import InputError, require_integer, require_number

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory

WIDTH = 5.0  # inches
# 12 points at this width are 8 points in a column of 3.4 inches.
STYLE: dict[Any, Any] = {
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "axes.linewidth": 0.9,
    "lines.linewidth": 1.6,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,  # letters stay letters that an editor can change
    "svg.fonttype": "none",
}
# Blue, vermillion, green, purple, orange, sky: told apart by colour-blind readers (M. Okabe and K. Ito, 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_NOTICE = "#A33B00"
_styled = partial(matplotlib.rc_context, STYLE)


def readable(name: str) -> str:
    r"""Return the name of a CV or observable as it is written beside an axis.

    >>> readable("ln_loss_train"), readable("10x_smoothed_accuracy_test")
    ('ln $L_\\mathrm{train}$', '10 × smoothed test accuracy')
    """
    if match := re.fullmatch(r"([0-9.]+)x_(.+)", name):
        return f"{match[1]} × {readable(match[2])}"
    if name.startswith("logit_"):
        return f"logit of {readable(name.removeprefix('logit_'))}"
    if match := re.fullmatch(r"(ln_)?loss_(\w+)", name):
        split = match[2].replace("_", r"\ ")
        return ("ln " if match[1] else "") + rf"$L_\mathrm{{{split}}}$"
    if match := re.fullmatch(r"(smoothed_)?accuracy_(train|test)", name):
        return f"{'smoothed ' if match[1] else ''}{match[2]} accuracy"
    if match := re.fullmatch(r"(ln_)?energy", name):
        return ("ln " if match[1] else "") + "$E$"
    return name.replace("_", " ")


# ---------------------------------------------------------------------- landscapes


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
        landscape: S with one or two axes; of more, take `landscape.marginal(...)` or `slice(...)`.
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
    if len(landscape.axes) > 2:
        raise InputError(
            f"plot_landscape: a landscape of {len(landscape.axes)} axes cannot be drawn; "
            f"take landscape.marginal(...) of one or two of {', '.join(landscape.names)}"
        )
    for kind, curve in (("equilibrium", equilibrium), ("training", training)):
        if len(landscape.axes) == 1 and curve is not None:
            raise InputError(f"plot_landscape: the {kind} curve needs a landscape of two axes; leave it out")
    with _styled():
        ax = ax or _new_axes(1, 3.7)[0]
        if len(landscape.axes) == 1:
            _draw_line(ax, landscape, reference, reference_label, value_label)
        else:
            _draw_map(ax, landscape, value, value_label, span)
            if training is not None:
                _draw_band(ax, training, training_label)
            _draw_curves(ax, equilibrium, equilibrium_label, reference, reference_label)
        _write_note(ax, note)
    return ax


def _entropy_label(landscape: EntropyLandscape) -> str:
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
    ax.set_ylabel(value_label or _entropy_label(landscape))
    _frame(ax, (x[landscape.visited][0], x[landscape.visited][-1]))
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False)


def _draw_map(
    ax: Axes, landscape: EntropyLandscape, value: Value | None, value_label: str | None, span: float | None
) -> None:
    x, y = landscape.axes
    heights = y.edges if value is None else np.asarray(value(y.edges), dtype=np.float64)
    s = landscape.entropy
    low, clipped = _colour_floor(s[landscape.visited], span)
    mesh = ax.pcolormesh(
        x.edges, heights, np.ma.masked_invalid(s).T, cmap="viridis", vmin=low, vmax=0.0, rasterized=True
    )
    bar = ax.figure.colorbar(mesh, ax=ax, extend="min" if clipped else "neither", pad=0.02)
    bar.set_label(_entropy_label(landscape))
    ax.set_xlabel(readable(x.name))
    name = y.name if value is None else natural_value(y.name)[1]
    ax.set_ylabel(value_label or readable(name))
    rows = np.flatnonzero(landscape.visited.any(axis=0))
    columns = np.flatnonzero(landscape.visited.any(axis=1))
    ax.set_xlim(x.edges[columns[0]], x.edges[columns[-1] + 1])
    ax.set_ylim(*sorted((heights[rows[0]], heights[rows[-1] + 1])))


def _colour_floor(s: Floats, span: float | None) -> tuple[float, bool]:
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


# ---------------------------------------------------------------------- trajectories


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
    wanted = [names] if isinstance(names, str) else list(names)
    series = [_scalar(trajectory, name) for name in wanted]
    with _styled():
        panels = _panels(ax, len(wanted), "plot_timeseries")
        for panel, name, (step, values) in zip(panels, wanted, series, strict=True):
            stride = max(1, math.ceil(len(step) / max_points))
            x, y = step[::stride], values[::stride]
            shown = y[:, :max_walkers]
            single = y.shape[1] == 1
            if not single:
                faint = to_rgba(COLORS[0], float(np.clip(3 / shown.shape[1], 0.08, 0.5)))
                labels = ["one walker"] + [f"_walker {w}" for w in range(1, shown.shape[1])]  # one line in the legend
                panel.plot(x, shown, color=faint, linewidth=0.7, label=labels)
            panel.plot(
                x, _mean_of_known(y), color=COLORS[0] if single else "black", label=f"mean of {y.shape[1]}", zorder=3
            )
            panel.set_ylabel(readable(name))
            _frame(panel, (x[0], x[-1]))
        several = len(panels[0].lines) > 1
        if several:  # above the panel, where there are no data
            place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "borderpad": 0.0, "borderaxespad": 0.2}
            panels[0].legend(frameon=False, handlelength=1.4, ncols=2, **cast(Any, place))
        _label_steps(panels, "step")
        _write_note(panels[0], note, pad=22.0 if several else 6.0)
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
    wanted = [names] if isinstance(names, str) else list(names)
    if not 1 <= len(wanted) <= 2:
        raise InputError(f"plot_histogram: {len(wanted)} observables; give one or two")
    fraction = require_number("plot_histogram", "last", last, above=0.0)
    if fraction > 1:
        raise InputError(f"plot_histogram: last = {last:g} must be at most 1, the whole record; change last")
    count = require_integer("plot_histogram", "bins", bins, least=1)
    data = _values_together([_scalar(trajectory, name) for name in wanted], wanted, fraction)
    with _styled():
        ax = ax or _new_axes(1, 3.7)[0]
        ax.set_xlabel(readable(wanted[0]))
        if len(wanted) == 1:
            ax.hist(data[0], count, color=COLORS[0], histtype="stepfilled", alpha=0.9)
            ax.set_ylabel("frames × walkers")
            ax.spines[["top", "right"]].set_visible(False)
        else:
            mesh = ax.hist2d(data[0], data[1], count, cmin=1, cmap="viridis", rasterized=True)[3]
            ax.set_ylabel(readable(wanted[1]))
            ax.figure.colorbar(mesh, ax=ax, pad=0.02).set_label("frames × walkers")
        _write_note(ax, note)
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
    positions, offsets = trajectory.positions, _offsets(trajectory)
    if positions is None or not len(positions.step):
        raise InputError("plot_parameters: the trajectory has no positions; record them in the run")
    walkers = positions.shape[1]
    if not 0 <= walker < walkers:
        raise InputError(f"plot_parameters: walker = {walker} must be one of 0 to {walkers - 1}; change walker")
    wanted = list(offsets)[:max_panels] if layers is None else ([layers] if isinstance(layers, str) else list(layers))
    unknown = [name for name in wanted if name not in offsets]
    if unknown or not wanted:
        raise InputError(f"plot_parameters: no parameter {', '.join(unknown)!r}; choose from {', '.join(offsets)}")
    stride = max(1, math.ceil(len(positions.step) / max_points))
    step, values = np.asarray(positions.step)[::stride], np.asarray(positions[::stride, walker])
    with _styled():
        panels = _panels(ax, len(wanted), "plot_parameters")
        for panel, name in zip(panels, wanted, strict=True):
            first, shape = offsets[name]
            size = math.prod(shape)
            shown = np.unique(np.linspace(0, size - 1, min(size, max_traces)).round().astype(int))
            for trace, index in enumerate(shown):
                panel.plot(step, values[:, first + index], color=COLORS[trace % len(COLORS)], linewidth=0.9, alpha=0.8)
            panel.set_ylabel(name)
            label = f"{len(shown)} of {size}" if len(shown) < size else f"all {size}"
            panel.annotate(label, (1.01, 0.5), xycoords="axes fraction", rotation=270, va="center", fontsize=11)
            _frame(panel, (step[0], step[-1]))
        _label_steps(panels, f"step (walker {walker})")
        left_out = f"{len(wanted)} of {len(offsets)} tensors" if layers is None and len(wanted) < len(offsets) else None
        _write_note(panels[0], "; ".join(filter(None, (note, left_out))) or None)
    return panels


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


def _offsets(trajectory: Trajectory) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return where each tensor begins in the flat positions, and its shape."""
    offsets, first = {}, 0
    for name, shape in trajectory.header["parameters"].items():
        offsets[name] = (first, tuple(shape))
        first += math.prod(shape)
    return offsets


# ---------------------------------------------------------------------- figures


def save(target: Axes | Figure | Sequence[Axes], path: str | Path, dpi: float = 150) -> Path:
    """Write a figure to a file, in the format that the ending of its name says.

    Args:
        target: the figure, or any of its axes.
        path: for example `landscape.png` or `landscape.pdf`.
        dpi: pixels per inch, for formats made of pixels.

    Returns:
        The path written.

    Raises:
        InputError: an ending that is not known, or a folder that does not exist or cannot be written to.
    """
    figure = _figure_of(target)
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        known = ", ".join(f".{name}" for name in sorted(formats))
        raise InputError(f"save: {str(path)!r} must end in a known format; use one of {known}")
    if not path.parent.is_dir():
        raise InputError(f"save: the folder of {str(path)!r} does not exist; make it first")
    try:
        with _styled():
            figure.savefig(path, dpi=dpi)
    except OSError as problem:
        raise InputError(f"save: cannot write {str(path)!r} ({problem.strerror}); choose another path") from problem
    return path


def _figure_of(target: Axes | Figure | Sequence[Axes]) -> Figure:
    if isinstance(target, Figure):
        return target
    first = target if isinstance(target, Axes) else target[0]
    figure = first.get_figure(root=True)
    return cast(Figure, figure)


def _new_axes(rows: int, height: float) -> list[Axes]:
    """Return the panels, one above the other, of a new figure."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return list(figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0])


def _panels(ax: Axes | Sequence[Axes] | None, count: int, owner: str) -> list[Axes]:
    if not count:
        raise InputError(f"{owner}: no names; give at least one")
    if ax is None:
        return _new_axes(count, 3.2 if count == 1 else 0.9 + 1.7 * count)
    panels = [ax] if isinstance(ax, Axes) else list(ax)
    if len(panels) != count:
        raise InputError(f"{owner}: {len(panels)} axes for {count} panels; give one for each, or none")
    return panels


def _label_steps(panels: list[Axes], label: str) -> None:
    panels[-1].set_xlabel(label)
    # 200000 as 2 x 10^5 once, at the end of the axis
    panels[-1].ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
    cast(Figure, panels[0].get_figure(root=True)).align_ylabels(panels)


def _frame(ax: Axes, limits: tuple[float, float]) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    if limits[1] > limits[0]:
        ax.set_xlim(*limits)


def _write_note(ax: Axes, note: str | None, pad: float = 6.0) -> None:
    """Write a note above the axes, in lines as long as the axes and their colour bar are wide."""
    if not note:
        return
    figure, cell = cast(Figure, ax.get_figure(root=True)), ax.get_subplotspec()
    share = cell.get_topmost_subplotspec().get_position(figure).width if cell else ax.get_position().width
    letters = max(20, int(11.5 * share * figure.get_figwidth()))  # of 12 points, about 0.09 inches each
    ax.set_title(textwrap.fill(note, letters), loc="left", fontsize=12, color=_NOTICE, pad=pad)
