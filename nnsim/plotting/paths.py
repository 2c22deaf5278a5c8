"""The paths of walkers over the landscape of two CVs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, withStroke

from nnsim.analysis.averages.common_frames import common_steps, opened
from nnsim.analysis.landscape.axes import Axis as GridAxis
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.errors import InputError, require_integer, require_integers, require_kind, require_texts, shown
from nnsim.plotting.landscapes import colour_floor, entropy_label
from nnsim.plotting.style import COLORS, active_style, new_axes, readable, styled, write_note

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "plot_paths"
# Light greys, which every colour of a path stands out from, in print too; white is where nothing was visited.
GREYS = LinearSegmentedColormap.from_list("light greys", colormaps["Greys"](np.linspace(0.1, 0.45, 256)))
NAMED = len(COLORS)  # of more walkers neither colours nor a legend tell which is which


def plot_paths(
    trajectory: Trajectory | str | Path,
    ax: Axes | None = None,
    *,
    walkers: Sequence[int] | None = None,
    cvs: tuple[str, str] | None = None,
    bias: str | None = None,
    landscape: EntropyLandscape | None = None,
    max_points: int = 120,
    note: str | None = None,
) -> Axes:
    """Draw the paths of walkers over S of two CVs: a ring where each starts and a square where it ends.

    S is in light greys, and white where not visited. Up to six walkers have a colour and a name each; of more, all
    paths are thin and of one colour.

    Args:
        trajectory: of a run that recorded two CVs of its bias, or its path.
        ax: axes to draw in, or None for a figure of its own.
        walkers: which ones; None takes four, evenly spread.
        cvs: names of the two CVs; None takes the first two of the landscape. Others are integrated out of S.
        bias: its name, if there are several.
        landscape: S to draw below, for example the average of several runs; None takes that of the run's bias.
        max_points: a longer path is thinned out evenly to at most so many points, its end kept; at least 2.
        note: a line above the picture.

    Raises:
        InputError: a landscape of one CV, a walker that does not exist or is given twice, a CV that is not in the
            landscape or was not recorded.
    """
    run = opened(trajectory)
    if landscape is not None:
        require_kind(OWNER, "landscape", landscape, EntropyLandscape, "EntropyLandscape.from_trajectory(...)")
    if cvs is not None and len(require_texts(OWNER, "cvs", cvs)) != 2:
        raise InputError(f"{OWNER}: cvs = {shown(cvs)} must be the names of two CVs; give both")
    found = landscape or EntropyLandscape.from_trajectory(run, bias)
    if len(found.axes) < 2:
        raise InputError(f"{OWNER}: a landscape of {found.names[0]} alone has no paths; draw them with plot_timeseries")
    x, y = cvs or found.names[:2]
    found = found.marginal(x, y)
    most = require_integer(OWNER, "max_points", max_points, least=2)
    steps, paths = walker_paths(run, (x, y), walkers, most)
    paths = {walker: cut_at_edges(path, found.axes) for walker, path in paths.items()}
    with styled():
        own_figure = ax is None
        ax = ax or new_axes(1, 4.1)[0]
        _draw_background(ax, found)
        single = len(paths) > NAMED
        for place, (walker, path) in enumerate(paths.items()):
            color = COLORS[0] if single else COLORS[(place + 1) % NAMED]
            _draw_path(ax, path, color, f"walker {walker}", single)
        ax.set_xlabel(readable(x))
        ax.set_ylabel(readable(y))
        handles = _handles(None if single else list(paths), steps, len(paths))
        look: dict[str, Any] = {"ncols": 3, "frameon": False, "handlelength": 1.2, "handletextpad": 0.4}
        if own_figure:  # above the axes, where there are no data
            cast(Figure, ax.figure).legend(handles=handles, loc="outside upper center", columnspacing=1.0, **look)
        else:
            ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), columnspacing=1.0, **look)
        write_note(ax, note, pad=6.0 if own_figure else 46.0)
    return ax


def walker_paths(
    trajectory: Trajectory, names: Sequence[str], walkers: Sequence[int] | None, max_points: int
) -> tuple[tuple[int, int], dict[int, Floats]]:
    """First and last step, and for each walker its path, [points, CVs]; only the frames drawn are read."""
    for name in names:
        if name not in trajectory:
            raise InputError(f"{OWNER}: {name} was not recorded; it has: {', '.join(trajectory.observables) or 'none'}")
    steps = common_steps(trajectory, list(names), -1)
    stride = max(1, math.ceil((len(steps) - 1) / (max_points - 1)))
    wanted = np.unique(np.append(steps[::stride], steps[-1]))[-max_points:] if stride > 1 else steps
    chosen = choose_walkers(OWNER, trajectory[names[0]].shape[1], walkers)
    columns = [
        np.asarray(trajectory[name][np.searchsorted(trajectory[name].step, wanted)], dtype=np.float64) for name in names
    ]
    joined = np.stack(columns, axis=-1)
    return (int(wanted[0]), int(wanted[-1])), {walker: joined[:, walker] for walker in chosen}


def cut_at_edges(path: Floats, axes: Sequence[GridAxis]) -> Floats:
    """A path [points, CVs] inside periodic axes, with a gap (NaN) where it goes through an edge."""
    wrapped = np.stack([axis.wrap(column) for axis, column in zip(axes, path.T, strict=True)], axis=-1)
    half = [0.5 * np.ptp(axis.edges) if axis.periodic else np.inf for axis in axes]
    through = np.flatnonzero((np.abs(np.diff(wrapped, axis=0)) > half).any(axis=1)) + 1
    return np.insert(wrapped, through, np.nan, axis=0)


def choose_walkers(owner: str, there: int, walkers: Sequence[int] | None, default: int = 4) -> list[int]:
    """The walkers asked for, or a few evenly spread ones."""
    if walkers is None:
        return [int(one) for one in np.unique(np.linspace(0, there - 1, min(default, there)).round())]
    chosen = require_integers(owner, "walkers", walkers, least=0)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"{owner}: walkers = {chosen} must be different walkers, at least one; change walkers")
    if max(chosen) >= there:
        raise InputError(f"{owner}: walker {max(chosen)} must be one of 0 to {there - 1}; change walkers")
    return chosen


def _draw_background(ax: Axes, landscape: EntropyLandscape) -> None:
    x, y = landscape.axes
    low, clipped = colour_floor(landscape.entropy[landscape.visited], None)
    mesh = ax.pcolormesh(
        x.edges, y.edges, np.ma.masked_invalid(landscape.entropy).T, cmap=GREYS, vmin=low, vmax=0.0, rasterized=True
    )
    bar = ax.figure.colorbar(mesh, ax=ax, extend="min" if clipped else "neither", pad=0.02)
    bar.set_label(entropy_label(landscape))
    columns, rows = (np.flatnonzero(landscape.visited.any(axis=other)) for other in (1, 0))
    ax.set_xlim(x.edges[columns[0]], x.edges[columns[-1] + 1])
    ax.set_ylim(y.edges[rows[0]], y.edges[rows[-1] + 1])


def _draw_path(ax: Axes, path: Floats, color: Any, label: str, thin: bool) -> None:
    scale = active_style().scale
    ax.plot(*path.T, color=color, linewidth=(0.5 if thin else 0.9) * scale, alpha=0.25 if thin else 0.75, zorder=2)
    size = (3.6 if thin else 7.0) * scale
    outline = [withStroke(linewidth=3.0 * scale, foreground="white"), Normal()]
    ends: tuple[tuple[str, Any, Any], ...] = (("o", path[0], "white"), ("s", path[-1], color))
    for marker, place, face in ends:
        ax.plot(
            *place,
            marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=color,
            markeredgewidth=1.6 * scale,
            path_effects=outline,
            zorder=3,
            label=label if marker == "s" else f"_start of {label}",
            clip_on=False,
        )


def _handles(walkers: list[int] | None, steps: tuple[int, int], count: int) -> list[Line2D]:
    """What the legend explains."""
    scale = active_style().scale
    grey = {"color": "0.25", "linestyle": "none", "markersize": 6.0 * scale}
    handles = [
        Line2D([], [], marker="o", markerfacecolor="white", label=f"at step {steps[0]}", **grey),  # type: ignore[arg-type]
        Line2D([], [], marker="s", label=f"at step {steps[1]}", **grey),  # type: ignore[arg-type]
    ]
    if walkers is None:
        handles.append(Line2D([], [], color=COLORS[0], linewidth=0.9 * scale, label=f"{count} walkers"))
    else:
        handles += [
            Line2D([], [], color=COLORS[(place + 1) % NAMED], linewidth=2 * scale, label=f"walker {walker}")
            for place, walker in enumerate(walkers)
        ]
    return handles
