"""Pictures of a ladder of temperatures with two sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.averages.sides import both_sides, has_sides, ladder_of
from nnsim.analysis.averages.tempering import NOT, Tempering
from nnsim.errors import InputError, shown
from nnsim.plotting.style import COLORS, as_panels, frame, new_figure, readable, styled, write_note

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

PIECES = 60  # of a record, each of which is a point of a line


def plot_tempering(
    run: Trajectory | Path | str, result: Tempering, ax: Sequence[Axes] | None = None, *, note: str | None = None
) -> list[Axes]:
    """Draw what `nnsim.analysis.tempering` has found: S, the averages at given ln L_train, and the way to them.

    Three panels: S(ln L_train) by thermodynamic integration and MBAR; the observable at given ln L_train, its mean, its
    most probable value and the means of both sides; ln L_train of the two sides along the run on the last rung, and on
    the first.

    Args:
        run: the run that was analysed.
        result: what was found.
        ax: three axes, or None for a figure of their own.
        note: a line above the picture; None is a short verdict.

    Raises:
        InputError: a result of something else, or another number of axes.
        TrajectoryError: a run that cannot be read.
    """
    if not isinstance(result, Tempering):
        raise InputError(f"plot_tempering: result = {shown(result)} must be what tempering gave; give it")
    run = opened(run, "plot_tempering")
    with styled():
        own = list(new_figure(6.6).subplots(3, 1)) if ax is None else ax
        panels = as_panels(own, 3, "plot_tempering")
        _entropy(panels[0], result)
        _averages(panels[1], result)
        _sides(panels[2], run, result)
        write_note(panels[0], _short(result) if note is None else note)
    return panels


def _short(result: Tempering) -> str:
    return "the two sides met on all rungs" if result.at_equilibrium else NOT


def _entropy(panel: Axes, found: Tempering) -> None:
    panel.errorbar(found.x, found.integral, 2 * found.integral_error, fmt="o-", color=COLORS[0], markersize=3,
                   label="thermodynamic integration")  # fmt: skip
    if not found.refused:
        panel.errorbar(found.x, found.mbar, 2 * found.mbar_error, fmt="s", color=COLORS[1], markersize=4,
                       markerfacecolor="none", label="MBAR")  # fmt: skip
    panel.set_xlabel(readable(found.along))
    panel.set_ylabel("S")
    panel.legend(frameon=False).set_in_layout(False)


def _averages(panel: Axes, found: Tempering) -> None:
    if found.sides is not None:
        rows = [one for one in found.sides.observables if one.base == found.of]
        for side, (name, color, marker) in enumerate((("side A", COLORS[1], "^"), ("side B", COLORS[2], "v"))):
            means, errors = ([getattr(one, what)[side] for one in rows] for what in ("mean", "error"))
            panel.errorbar(found.x, means, 2 * np.array(errors), fmt=marker, color=color, markersize=4, label=name)
    panel.errorbar(found.x, found.y, 2 * found.y_error, fmt="-", color=COLORS[0], label="mean")
    panel.errorbar(found.x, found.mode, 2 * found.mode_error, fmt="--", color="0.35", label="most probable")
    panel.set_xlabel(readable(found.along))
    panel.set_ylabel(readable(found.of))
    panel.legend(frameon=False).set_in_layout(False)


def _sides(panel: Axes, run: Trajectory, found: Tempering) -> None:
    """ln L_train of each side on the two ends of the ladder."""
    ladder = ladder_of(run)
    assert ladder is not None
    sides = both_sides(run, "plot_tempering") if has_sides(run) else ()
    for side, color in zip(sides, (COLORS[1], COLORS[2]), strict=False):
        step, values = side[0].record(found.along)
        values = values.reshape(len(values), -1, ladder[1])
        pieces = np.array_split(np.arange(len(step)), min(PIECES, len(step)))
        at = [step[piece].mean() for piece in pieces]
        for rung, style in ((0, ":"), (-1, "-")):
            line = [values[piece, :, rung].mean() for piece in pieces]
            panel.plot(at, line, style, color=color, label=side[0].label if rung else None)
    panel.set_xlabel(f"step (full: beta = {found.beta[-1]:.4g}, dotted: {found.beta[0]:.4g})")
    panel.set_ylabel(readable(found.along))
    frame(panel, (0.0, float(run.steps)))
    if sides:
        panel.legend(frameon=False).set_in_layout(False)
