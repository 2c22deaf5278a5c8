"""Pictures of how runs converge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.landscape.convergence import ConvergenceRecord
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.snapshots import EntropyDifference, entropy_difference
from nnsim.criteria import CONVERGED_FLATNESS, CONVERGED_INCREMENT, CONVERGED_ROUND_TRIPS
from nnsim.errors import InputError, require_several
from nnsim.plotting.style import COLORS, as_panels, frame, label_steps, readable, styled, write_note

_LABELS = (
    "increment\n($kT$)",
    "histogram\nflatness",
    "change of $S$\n(nats, rms)",
    "round trips",
    "$\\Delta S$\n(nats)",
)
DECADES = 5  # of a logarithmic axis: a change far below all others would press these together
_DASHES = ("-", "--", ":", "-.")  # of the runs that share a colour
_MOST_NAMED = 2 * len(COLORS)  # of more runs a legend helps nobody


def plot_convergence(
    records: ConvergenceRecord | Sequence[ConvergenceRecord],
    ax: Sequence[Axes] | None = None,
    *,
    note: str | None = None,
) -> list[Axes]:
    """Draw what tells whether Wang-Landau runs have converged, one line for each run.

    Five panels share the number of steps (moves) of all walkers: the increment; the flatness of the histogram of the
    later half so far; the rms change of S since the report before; the round trips so far; and the difference
    S(low) - S(high) between the ends of the round trips, with the mean over the runs and its standard error as a number
    and a band. Dotted lines are the limits of `Diagnosis.problems`.

    Args:
        records: of one or several independent runs, from `convergence_records`.
        ax: five axes, or None for a figure of its own.
        note: a line above the picture, for example that the runs have not converged.

    Returns:
        The five axes, from the top.

    Raises:
        InputError: no record, records of different CVs, ends or grids, or a number of axes other than five.
    """
    runs = require_several("plot_convergence", "records", records, ConvergenceRecord, "convergence_records(...)")
    if not runs:
        raise InputError("plot_convergence: no record; give at least one")
    if len({(run.cv, run.low, run.high) for run in runs}) > 1:
        raise InputError(
            "plot_convergence: records between different values of the CV; make them with one convergence_records(...)"
        )
    mean = _last_difference(runs)
    with styled():
        panels = as_panels(ax, len(_LABELS), "plot_convergence", height=1.35)
        for number, run in enumerate(runs):
            look = {
                "color": COLORS[number % len(COLORS)],
                "linestyle": _DASHES[number // len(COLORS) % len(_DASHES)],
                "linewidth": 1.2,
                "marker": "o" if len(run.step) <= 60 else None,
                "markersize": 2.6,
                "label": run.name.removesuffix(".zarr"),
            }
            rows = (run.increment, run.flatness, run.change, run.round_trips, run.difference)
            for panel, values in zip(panels, rows, strict=True):
                panel.plot(run.moves, values, **cast(Any, look))
        _scale(panels, runs)
        _draw_mean(panels[-1], runs[0], mean, len(runs))
        named = 1 < len(runs) <= _MOST_NAMED
        lines = _draw_legend(panels[0]) if named else 0
        label_steps(panels, "steps of all walkers")
        write_note(panels[0], note, pad=6.0 + 18.0 * lines)
    return panels


def _last_difference(runs: list[ConvergenceRecord]) -> EntropyDifference:
    """S(low) - S(high) at the end: of the run, or mean and standard error of several."""
    if not all(math.isfinite(run.difference[-1]) for run in runs):
        return EntropyDifference(math.nan, math.nan)
    entropy = runs[0].entropy if len(runs) == 1 else EntropyLandscape.average([run.entropy for run in runs])
    return entropy_difference(entropy, runs[0].low, runs[0].high)


def _scale(panels: list[Axes], runs: list[ConvergenceRecord]) -> None:
    longest = max(float(run.moves[-1]) for run in runs)
    for panel, label in zip(panels, _LABELS, strict=True):
        panel.set_ylabel(label)
        frame(panel, (0.0, 1.02 * longest))
    increment, flat, change, trips, _ = panels
    _whole_decades(increment, np.concatenate([run.increment for run in runs]))
    _whole_decades(change, np.concatenate([run.change for run in runs]))
    # no limit of the change: that of a diagnosis is over half of the run, not over one report
    for panel, limit in ((increment, CONVERGED_INCREMENT), (flat, CONVERGED_FLATNESS), (trips, CONVERGED_ROUND_TRIPS)):
        panel.axhline(limit, color="0.45", linestyle=":", linewidth=1.0, zorder=1, label="_limit")
    flat.set_ylim(-0.04, 1.04)
    flat.set_yticks([0, 0.5, 1])
    most = max(1, *(int(run.round_trips[-1]) for run in runs))
    trips.set_ylim(-0.04 * most, 1.08 * most)
    trips.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _whole_decades(panel: Axes, values: Floats) -> None:
    """A logarithmic axis that ends at powers of ten, so that it has two labels or more: the highest DECADES at most."""
    values = values[values > 0]
    if not len(values):  # of a frozen bias S does not change
        return
    panel.set_yscale("log", nonpositive="mask")
    low, high = math.floor(np.log10(values.min())), math.ceil(np.log10(values.max()))
    low = max(low, high - DECADES)
    panel.set_ylim(0.8 * 10.0**low, 1.25 * 10.0 ** max(high, low + 1))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _draw_mean(panel: Axes, run: ConvergenceRecord, mean: EntropyDifference, count: int) -> None:
    where = rf"$\Delta S = S({run.low:.3g}) - S({run.high:.3g})$ along {readable(run.cv)}"
    if math.isnan(mean.value):
        found = "not known: not yet visited" + (" by every run" if count > 1 else "")
    elif count == 1:
        found = f"{_number(mean.value, 1)} nats at the end (one run: no error)"
    else:
        found = f"{_number(mean.value, mean.error)} ± {_number(mean.error, mean.error)} nats, mean of {count} runs"
        band = (mean.value - mean.error, mean.value + mean.error)
        panel.axhspan(*band, color="0.85", linewidth=0, zorder=0)
        panel.axhline(mean.value, color="0.45", linewidth=1.0, zorder=0.5, label="_mean")
    panel.set_title(f"{where}:\n{found}", loc="left", fontsize="medium")


def _number(value: float, error: float) -> str:
    """To two digits of its error."""
    digits = 1 - math.floor(math.log10(error)) if error > 0 else 2
    return f"{round(value, digits):.{max(digits, 0)}f}".replace("-", "−")


def _draw_legend(panel: Axes) -> int:
    """Names of the runs above a panel, where there are no data; the number of lines."""
    names = panel.get_legend_handles_labels()[1]
    longest = max(len(name) for name in names)
    columns = min(max(1, 36 // (longest + 5)), len(names))  # letters of a line of names and lines
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 0.98), "borderpad": 0.0, "borderaxespad": 0.2}
    spacing = {"handlelength": 1.2, "handletextpad": 0.4, "columnspacing": 0.8, "labelspacing": 0.25}
    panel.legend(frameon=False, ncols=columns, **cast(Any, place | spacing))
    return math.ceil(len(names) / columns)
