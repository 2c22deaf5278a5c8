"""How all pictures look, and how they are made and saved.

Sizes are chosen so that a picture printed at the width of one column, 3.4 inches, has letters of 8 points.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnsim.errors import InputError

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
NOTICE = "#A33B00"
styled = partial(matplotlib.rc_context, STYLE)


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
    figure = figure_of(target)
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        known = ", ".join(f".{name}" for name in sorted(formats))
        raise InputError(f"save: {str(path)!r} must end in a known format; use one of {known}")
    if not path.parent.is_dir():
        raise InputError(f"save: the folder of {str(path)!r} does not exist; make it first")
    try:
        with styled():
            figure.savefig(path, dpi=dpi)
    except OSError as problem:
        raise InputError(f"save: cannot write {str(path)!r} ({problem.strerror}); choose another path") from problem
    return path


def figure_of(target: Axes | Figure | Sequence[Axes]) -> Figure:
    """Return the figure that axes belong to."""
    if isinstance(target, Figure):
        return target
    first = target if isinstance(target, Axes) else target[0]
    figure = first.get_figure(root=True)
    return cast(Figure, figure)


def new_axes(rows: int, height: float) -> list[Axes]:
    """Return the panels, one above the other, of a new figure."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return list(figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0])


def as_panels(ax: Axes | Sequence[Axes] | None, count: int, owner: str, height: float = 1.7) -> list[Axes]:
    """Return the axes given, one for each panel, or those of a new figure, each so many inches high."""
    if not count:
        raise InputError(f"{owner}: no names; give at least one")
    if ax is None:
        return new_axes(count, 3.2 if count == 1 else 0.9 + height * count)
    panels = [ax] if isinstance(ax, Axes) else list(ax)
    if len(panels) != count:
        raise InputError(f"{owner}: {len(panels)} axes for {count} panels; give one for each, or none")
    return panels


def label_steps(panels: list[Axes], label: str) -> None:
    """Label the shared axis of steps below the last panel, and line the other labels up."""
    panels[-1].set_xlabel(label)
    # 200000 as 2 x 10^5 once, at the end of the axis
    panels[-1].ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
    cast(Figure, panels[0].get_figure(root=True)).align_ylabels(panels)


def frame(ax: Axes, limits: tuple[float, float]) -> None:
    """Leave away the upper and right edge, and show these limits of x."""
    ax.spines[["top", "right"]].set_visible(False)
    if limits[1] > limits[0]:
        ax.set_xlim(*limits)


def write_note(ax: Axes, note: str | None, pad: float = 6.0) -> None:
    """Write a note above the axes, in lines as long as the axes and their colour bar are wide."""
    if not note:
        return
    figure, cell = cast(Figure, ax.get_figure(root=True)), ax.get_subplotspec()
    share = cell.get_topmost_subplotspec().get_position(figure).width if cell else ax.get_position().width
    letters = max(20, int(11.5 * share * figure.get_figwidth()))  # of 12 points, about 0.09 inches each
    ax.set_title(textwrap.fill(note, letters), loc="left", fontsize=12, color=NOTICE, pad=pad)
