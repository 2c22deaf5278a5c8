"""How the parameters of each layer are distributed in the course of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.checks import as_floats
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_integer, require_integers, require_number
from nnsim.networks.layout import places_of
from nnsim.plotting.style import COLORS, active_style, as_panels, frame, joined, new_figure, styled, write_note

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "plot_layers"
BANDS = (0.9, 0.5)  # shares of the parameters inside the bands around the median
KINDS = ("weights", "biases")


def plot_layers(
    trajectory: Trajectory | str | Path,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    walkers: Sequence[int] | None = None,
    bands: Sequence[float] = BANDS,
    max_frames: int = 200,
    max_layers: int = 10,
    note: str | None = None,
) -> list[Axes]:
    """Draw the distribution of the weights and of the biases of each layer against the step.

    For each layer a panel of its weights and one of its biases: the median over parameters and walkers as a line, and
    around it bands that hold half and nine tenths of the values. The panels of a kind do not share their scale. In a
    periodic box the values are those inside it, counted from its lower edge.

    Args:
        trajectory: with recorded positions, or its path.
        ax: one axes for each panel, in the order of the return value, or None for a figure of its own.
        walkers: whose parameters count; None takes all.
        bands: shares of the values inside each band, above 0 and below 1.
        max_frames: of a longer record at most so many frames, evenly spread, are read; at least 2.
        max_layers: at most so many layers are drawn, from the first on; at least 1.
        note: a line above the picture.

    Returns:
        The panels, layer by layer, weights before biases; a layer without biases has only one.

    Raises:
        InputError: no positions, a walker that does not exist, or a band outside (0, 1).
    """
    run = opened(trajectory)
    positions = run.positions
    if positions is None or not len(positions):
        raise InputError(f"{OWNER}: the trajectory has no positions; set positions_every, and run at least so long")
    shares = np.atleast_1d(as_floats(OWNER, "bands", bands)).tolist()
    shares = [require_number(OWNER, "bands", share, above=0.0) for share in shares]
    if not shares or max(shares) >= 1:
        raise InputError(f"{OWNER}: bands = {shares} must be shares above 0 and below 1; change bands")
    groups = layer_groups(run.header["parameters"])
    names = list(groups)[: require_integer(OWNER, "max_layers", max_layers, least=1)]
    chosen = _walkers(positions.shape[1], walkers)
    keys = [(layer, kind) for layer in names for kind in KINDS if kind in groups[layer]]
    places = [groups[layer][kind] for layer, kind in keys]
    frames = _spread(len(positions), require_integer(OWNER, "max_frames", max_frames, least=2))
    levels = sorted({0.5, *(0.5 + sign * share / 2 for share in shares for sign in (-1, 1))})
    found = _quantiles(positions, frames, chosen, places, levels)
    with styled():
        panels = _panels(names, keys) if ax is None else as_panels(ax, len(keys), OWNER)
        for panel, key, place, values in zip(panels, keys, places, found, strict=True):
            _draw(panel, positions.step[frames], values, levels, shares)
            _label(panel, key, len(place))
        _finish(panels, names, keys, own_figure=ax is None)
        left_out = f"{len(names)} of {len(groups)} layers" if len(names) < len(groups) else None
        write_note(panels[0], joined(note, left_out), pad=24.0)
    return panels


def layer_groups(parameters: dict[str, Sequence[int]]) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Where the weights and biases of each layer are in the flat positions: layer -> kind -> indices.

    A layer is what stands before the last point of a tensor's name, `2` for `2.weight`; a tensor whose name ends in
    `bias` holds biases, and any other one weights.
    """
    groups: dict[str, dict[str, NDArray[np.int64]]] = {}
    for name, at in places_of(parameters).items():
        layer, _, last = name.rpartition(".")
        kind = "biases" if last.endswith("bias") else "weights"
        place = np.arange(at.start, at.stop)
        of_layer = groups.setdefault(layer or name, {})
        of_layer[kind] = np.concatenate([of_layer[kind], place]) if kind in of_layer else place
    return groups


def _walkers(there: int, walkers: Sequence[int] | None) -> list[int]:
    if walkers is None:
        return list(range(there))
    chosen = require_integers(OWNER, "walkers", walkers, least=0)
    if not chosen or max(chosen) >= there:
        raise InputError(f"{OWNER}: walkers = {chosen} must be among 0 to {there - 1}, at least one; change walkers")
    return chosen


def _spread(there: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, there - 1, min(there, most)).round().astype(np.int64))


def _quantiles(
    positions: Any, frames: NDArray[np.int64], walkers: list[int], places: list[NDArray[np.int64]], levels: list[float]
) -> list[Floats]:
    """Of each group, [T, levels]; one frame at a time, so that memory does not grow with the run."""
    found = [np.empty((len(frames), len(levels))) for _ in places]
    for row, index in enumerate(frames):
        values = np.asarray(positions[int(index)], dtype=np.float64)[walkers]
        for group, place in zip(found, places, strict=True):
            group[row] = np.quantile(values[:, place], levels)
    return found


def _panels(layers: list[str], keys: list[tuple[str, str]]) -> list[Axes]:
    """Two columns, a row for each layer."""
    figure = new_figure(0.95 + 1.15 * len(layers))
    grid = figure.subplots(len(layers), 2, sharex=True, squeeze=False)
    for row, layer in enumerate(layers):
        for column, kind in enumerate(KINDS):
            if (layer, kind) not in keys:
                grid[row, column].remove()
    return [grid[layers.index(layer), KINDS.index(kind)] for layer, kind in keys]


def _draw(panel: Axes, step: NDArray[np.int64], values: Floats, levels: list[float], shares: list[float]) -> None:
    for place, share in enumerate(sorted(shares, reverse=True)):
        low, high = (levels.index(0.5 + sign * share / 2) for sign in (-1, 1))
        opacity = 0.25 + 0.3 * place / max(1, len(shares) - 1)
        panel.fill_between(
            step, values[:, low], values[:, high], color=COLORS[0], alpha=opacity, linewidth=0, label=f"{share:.0%}"
        )
    marker = "." if len(step) == 1 else None
    panel.plot(step, values[:, levels.index(0.5)], color="black", linewidth=1.2, marker=marker, label="median")
    frame(panel, (float(step[0]), float(step[-1])))
    panel.locator_params(axis="y", nbins=4)


def _label(panel: Axes, key: tuple[str, str], size: int) -> None:
    panel.annotate(f"n = {size}", (1.02, 0.5), xycoords="axes fraction", rotation=270, va="center", fontsize="small")
    if key[1] == KINDS[0]:
        panel.set_ylabel(f"layer {key[0]}")


def _finish(panels: list[Axes], layers: list[str], keys: list[tuple[str, str]], own_figure: bool) -> None:
    """Names of the columns, of the step and of the bands."""
    figure = panels[0].figure
    for kind in KINDS:
        column = [panel for panel, key in zip(panels, keys, strict=True) if key[1] == kind]
        if column:
            column[0].set_title(kind, pad=3.0)
            column[-1].set_xlabel("step")
            column[-1].tick_params(labelbottom=True)
            column[-1].ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
            column[-1].locator_params(axis="x", nbins=3)
    if own_figure:
        handles, labels = panels[0].get_legend_handles_labels()
        texts = [label.replace("%", " %") for label in labels]
        texts[0] += " of the values"
        scale = active_style().scale
        figure.legend(handles[::-1], texts[::-1], loc="outside upper center", ncols=3, frameon=False,
                      handlelength=1.2, columnspacing=1.0, fontsize=12 * scale)  # fmt: skip
        figure.align_ylabels(panels)
