"""Pictures of the two-sided test of equilibrium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes

from nnsim.analysis.averages.sides import Side, both_sides, one_side
from nnsim.analysis.averages.two_sided import TwoSided
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, printable, require_integer, shown
from nnsim.plotting.style import COLORS, as_panels, frame, label_steps, readable, styled, write_note

PIECES = 60  # of a record, each of which is a point of the line
LETTERS = 32  # of the name of a start in the legend


def plot_two_sided(
    a: Any,
    b: Any,
    result: TwoSided,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    max_panels: int = 4,
    note: str | None = None,
) -> list[Axes]:
    """Draw how the two sides of `nnsim.analysis.two_sided` went towards each other, a panel for each observable.

    Lines are means over the walkers of a side in pieces of the run, bands two standard errors of them. Grey is the part
    that the comparison leaves out.

    Args:
        a: runs of the one side, as they were given to `two_sided`.
        b: runs of the other side; None where the walkers of `a` began on two recorded sides.
        result: what it has found.
        ax: one axes for each panel, or None for a figure of its own.
        max_panels: at most so many observables; those that speak against equilibrium come first, then losses and
            accuracies.
        note: a line above the picture; None is the verdict.

    Raises:
        InputError: no runs, or another number of axes than panels.
        TrajectoryError: a run that cannot be read.
    """
    if not isinstance(result, TwoSided):
        raise InputError(f"plot_two_sided: result = {shown(result)} must be what two_sided gave; give it")
    owner = "plot_two_sided"
    sides = both_sides(a, owner) if b is None else (one_side(a, owner), one_side(b, owner))
    names = _chosen(result, require_integer("plot_two_sided", "max_panels", max_panels, least=1))
    with styled():
        panels = as_panels(ax, len(names), "plot_two_sided")
        for panel, name in zip(panels, names, strict=True):
            last = 0.0
            for side, color in zip(sides, (COLORS[1], COLORS[0]), strict=True):
                step, mean, error = _line(side, name)
                panel.fill_between(step, mean - 2 * error, mean + 2 * error, color=color, alpha=0.25, linewidth=0)
                panel.plot(step, mean, color=color, label=_label(side))
                last = max(last, float(step[-1]))
            panel.axvspan(0, result.since * last, color="0.5", alpha=0.12, linewidth=0)
            panel.set_ylabel(readable(name))
            frame(panel, (0.0, last))
        place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderpad": 0.0, "borderaxespad": 0.2}
        legend = panels[0].legend(frameon=False, handlelength=1.4, **cast(Any, place))
        legend.set_in_layout(False)  # a long name must not make the panels narrow
        label_steps(panels, "step")
        write_note(panels[0], result.verdict if note is None else note, pad=44.0)
    return panels


def _label(side: Sequence[Side]) -> str:
    """From where a side began, in one line as wide as the panels, and its walkers."""
    name = printable(side[0].label.partition(" (run ")[0])
    name = name if len(name) <= LETTERS else f"{name[: LETTERS - 3]}..."
    return f"{name}, {sum(len(part.states) for part in side)} walkers"


def _chosen(result: TwoSided, most: int) -> list[str]:
    """The observables that say most, each once."""
    doubted = [one.name for one in result.observables if one.verdict.isupper()]
    telling = [one.name for one in result.observables if "loss" in one.name or "accuracy" in one.name]
    names = [*doubted, *(telling or [one.name for one in result.observables])]
    return list(dict.fromkeys(name.partition(" at ")[0] for name in names))[:most]


def _line(side: Sequence[Side], name: str) -> tuple[Floats, Floats, Floats]:
    """Steps, and the mean over walkers with its standard error, in pieces of the runs."""
    length = min(part.run.steps for part in side)
    parts: list[Floats] = []
    for part in side:
        step, values = part.record(name)
        edges = np.linspace(0, length, min(PIECES, len(step)) + 1)
        piece = np.clip(np.searchsorted(edges, step, side="left") - 1, 0, len(edges) - 2)
        known = [index for index in range(len(edges) - 1) if (piece == index).any()]
        parts.append(np.stack([values[piece == index].mean(axis=0) for index in known]))
        steps = np.array([step[piece == index].mean() for index in known])
    count = min(map(len, parts))
    walkers = np.concatenate([part[:count] for part in parts], axis=1)
    error = walkers.std(axis=1, ddof=1) / np.sqrt(walkers.shape[1]) if walkers.shape[1] > 1 else 0 * walkers[:, 0]
    return steps[:count], walkers.mean(axis=1), error
