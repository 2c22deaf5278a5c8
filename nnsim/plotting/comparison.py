"""Equilibrium beside training, for several networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from nnsim.analysis.training.curves import FinalAdvantage
from nnsim.errors import InputError, require_several, require_texts
from nnsim.plotting.style import COLORS, new_axes, readable, styled


def plot_advantages(labels: Sequence[str], advantages: Sequence[FinalAdvantage], ax: Axes | None = None) -> Axes:
    """Equilibrium (dots) and training (squares) of several comparisons side by side, a line from one to the other.

    The error bar of the equilibrium is its standard error, that of training the one of the difference.

    Args:
        labels: a name for each comparison, written below it.
        advantages: one or more, of the same observable.
        ax: axes to draw in, or None for a figure of its own.

    Raises:
        InputError: no comparison, or another number of labels.
    """
    labels = require_texts("plot_advantages", "labels", labels)
    advantages = require_several("plot_advantages", "advantages", advantages, FinalAdvantage, "final_advantage(...)")
    if not advantages or len(labels) != len(advantages):
        raise InputError(f"plot_advantages: {len(labels)} labels for {len(advantages)} comparisons; give each one")
    place = np.arange(len(labels))
    with styled():
        ax = ax or new_axes(1, 3.2)[0]
        for x, one in zip(place, advantages, strict=True):
            ax.plot([x, x], [one.training, one.equilibrium], color="0.7", linewidth=2, zorder=1)
        for name, marker, color in (("equilibrium", "o", COLORS[0]), ("training", "s", COLORS[1])):
            values = [getattr(one, name) for one in advantages]
            errors = np.nan_to_num([getattr(one, f"{name}_error") for one in advantages])
            ax.errorbar(place, values, errors, fmt=marker, color=color, capsize=2, label=name, zorder=2)
        ax.set_xticks(place, labels)
        ax.set_xlim(-0.5, len(labels) - 0.5)
        ax.set_ylabel(readable(advantages[0].of))
        ax.legend(frameon=False)
    return ax
