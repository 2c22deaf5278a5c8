"""Training as a picture: entropy and trace of the tangent kernel, loss and the like against the epoch."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from nnsim.analysis.training.evolution import Evolution, evolution, running_average
from nnsim.arithmetic import operation_of
from nnsim.errors import InputError, printable, require_flag, require_text, require_texts, shown
from nnsim.plotting.style import COLORS, NOTICE, WIDTH, active_style, as_panels, readable, styled

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "plot_evolution"
NAMES = ("ntk_entropy", "ntk_trace", "loss")
LOGARITHMIC = ("ntk_trace", "loss")
SPLITS = ("train", "test")
STYLES = ("-", "--", ":", "-.")
TWO_COLUMNS = 10.2  # inches: 12 points are 8 points where a picture is printed 6.9 inches wide
DECADES = 2.0  # of a logarithmic axis, below which not only powers of ten are written beside it
LETTER = 0.095  # inches, of 12 points

Runs = Mapping[str, "Trajectory | Sequence[Trajectory]"]


def plot_evolution(
    runs: Runs,
    names: Sequence[str] = NAMES,
    splits: Sequence[str] = SPLITS,
    axes: Axes | Sequence[Axes] | None = None,
    *,
    window: int | None = None,
    epoch: int | None = None,
    log: Sequence[str] = LOGARITHMIC,
    log_x: bool = False,
    raw: bool = True,
    wide: bool = False,
    title: str | None = None,
    diverged: str = "refuse",
) -> list[Axes]:
    """Draw quantities along training, a panel each: mean over seeds in a colour for each label, and their spread.

    The bold line is the running average of the mean over the runs, solid for the first split (train) and dashed for the
    second (test); the mean itself is thin and faint behind it, and the band is one standard deviation of the runs to
    both sides, averaged alike. On a logarithmic axis the band ends at a tenth of the mean.

    Args:
        runs: label -> trajectory, whose walkers are runs, or several, taken together; see `sweep_runs` for a sweep. An
            empty label is not written.
        names: quantities. Each stands for the observables NAME_train and NAME_test, or, where these were not recorded,
            for the only ones whose names go on after that, such as ntk_entropy_train_500points; among several choose
            with `{split}` in the name, as in "ntk_entropy_{split}_500points". An observable that has no split is drawn
            by its own name. Those that no run has recorded are left out.
        splits: drawn with a style of line each, at most four.
        axes: one for each quantity that was recorded, or None for a figure of its own.
        window: frames of the running average, odd; None is about a 20th of the frames of each trajectory, 1 is none.
        epoch: steps per epoch; None takes what each trajectory says.
        log: quantities on a logarithmic axis.
        log_x: an axis of ln(1 + epoch), which shows the early epochs; the default is linear.
        raw: draw the mean without running average too.
        wide: the panels side by side, for the width of two columns, instead of one above the other.
        title: a line above the first panel.
        diverged: of a run with numbers that are not finite, `"refuse"` or `"drop"`, see `evolution`.

    Raises:
        InputError: no run, none of the quantities recorded (the message lists what there is), a quantity that several
            observables fit, one without any value above 0 on a logarithmic axis, and all that `evolution` refuses.
    """
    if not isinstance(runs, Mapping) or not all(isinstance(label, str) for label in runs):
        raise InputError(f"{OWNER}: runs = {shown(runs)} must be runs by their label; give {{label: trajectory}}")
    names, splits = require_texts(OWNER, "names", names), require_texts(OWNER, "splits", splits)
    log = require_texts(OWNER, "log", log)
    for flag, chosen in {"log_x": log_x, "raw": raw, "wide": wide}.items():
        require_flag(OWNER, flag, chosen)
    if title is not None:
        require_text(OWNER, "title", title)
    sequences = {key: _listed(one) for key, one in runs.items()}
    if not sequences:
        raise InputError(f"{OWNER}: no runs; give at least one, as label: trajectory")
    if not 1 <= len(splits) <= len(STYLES):
        raise InputError(f"{OWNER}: {len(splits)} splits; give 1 to {len(STYLES)}, such as 'train' and 'test'")
    found = _find_all(sequences, names, splits)
    options: dict[str, Any] = {"window": window, "epoch": epoch, "diverged": diverged}
    drawn = _evolutions(sequences, found, options)
    colors = _colors(list(sequences))
    with styled():
        panels = _panels(axes, len(drawn), wide)
        for panel, (name, curves) in zip(panels, drawn.items(), strict=True):
            for key, split, curve in curves:
                _draw(panel, curve, colors[key], _style(split, splits), raw, name in log)
            _dress(panel, name, curves, name in log)
        last = max(float(curve.epoch[-1]) for curves in drawn.values() for *_, curve in curves)
        _label_epochs(panels, last, log_x)
        used = [split for split in splits if any(split == s for curves in drawn.values() for _, s, _ in curves)]
        _legend(panels, colors, [(split, _style(split, splits)) for split in used], axes is None)
        _write_above(panels[0], title, _left_out(drawn))
    return panels


# -------------------------------------------------------------------------------------------------------- what to draw


def require_recorded(runs: Runs, names: Sequence[str], splits: Sequence[str] = SPLITS) -> None:
    """Raise `InputError` for a quantity that no run has recorded, which `plot_evolution` would leave out."""
    for name in names:
        _find_all({key: _listed(one) for key, one in runs.items()}, [name], splits)


def _listed(runs: Trajectory | Sequence[Trajectory]) -> list[Trajectory]:
    return list(runs) if isinstance(runs, Sequence) else [runs]


_Places = list[tuple[str, str | None, str]]  # label, split, observable
_Curve = tuple[str, str | None, Evolution]
_Drawn = dict[str, list[_Curve]]  # of each quantity


def _find_all(runs: dict[str, list[Trajectory]], names: Sequence[str], splits: Sequence[str]) -> dict[str, _Places]:
    """The observables of each quantity, those of quantities that were recorded somewhere."""
    found: dict[str, _Places] = {}
    for name in names:
        places = [
            (key, split, of)
            for key, trajectories in runs.items()
            for split in (*splits, None)
            if trajectories and (of := _observable(trajectories[0].observables, name, split))
        ]
        if places:
            found[name] = places
    if not found:
        there = dict.fromkeys(of for trajectories in runs.values() for one in trajectories for of in one.observables)
        asked, listed = ", ".join(names) or "(no names)", ", ".join(there) or "nothing"
        raise InputError(f"{OWNER}: none of {asked} was recorded; there is {listed}")
    return found


def _evolutions(runs: dict[str, list[Trajectory]], found: dict[str, _Places], options: dict[str, Any]) -> _Drawn:
    """All curves; a run that diverged in one quantity is left out of all of them."""
    drawn = {
        name: [(key, split, evolution(runs[key], of, **options)) for key, split, of in places]
        for name, places in found.items()
    }
    dropped = {key: {run for *_, curve in _of_label(drawn, key) for run in curve.dropped} for key in runs}
    return {
        name: [
            (key, split, evolution(runs[key], curve.name, leave_out=dropped[key], **options) if dropped[key] else curve)
            for key, split, curve in curves
        ]
        for name, curves in drawn.items()
    }


def _of_label(drawn: _Drawn, label: str) -> list[_Curve]:
    return [curve for curves in drawn.values() for curve in curves if curve[0] == label]


def _observable(recorded: Sequence[str], name: str, split: str | None) -> str | None:
    """The observable of a quantity on a split, or, without one, of its own name."""
    if split is None:
        return name if name in recorded else None
    wanted = name.replace("{split}", split) if "{split}" in name else f"{name}_{split}"
    if wanted in recorded:
        return wanted
    others = [one for one in recorded if one.startswith(f"{wanted}_") and not operation_of(one)]
    if len(others) > 1:
        raise InputError(
            f"{OWNER}: {name!r} fits {', '.join(others)}; choose one, as {others[0].replace(split, '{split}')!r}"
        )
    return others[0] if others else None


def _colors(labels: list[str]) -> dict[str, Any]:
    """Colours that differ; more labels than there are of these are ordered from dark to light."""
    if len(labels) <= len(COLORS):
        return dict(zip(labels, COLORS, strict=False))
    shades = colormaps["viridis"](np.linspace(0, 0.92, len(labels)))
    return dict(zip(labels, map(tuple, shades), strict=True))


def _style(split: str | None, splits: Sequence[str]) -> str:
    return "-" if split is None else STYLES[list(splits).index(split)]


def _left_out(drawn: _Drawn) -> str | None:
    runs = {run for curves in drawn.values() for *_, curve in curves for run in curve.dropped}
    return f"left out: {len(runs)} {'run' if len(runs) == 1 else 'runs'} that diverged" if runs else None


# -------------------------------------------------------------------------------------------------------------- drawing


def _panels(axes: Axes | Sequence[Axes] | None, count: int, wide: bool) -> list[Axes]:
    if axes is not None or not wide:
        return as_panels(axes, count, OWNER, height=1.9)
    width = max(WIDTH, TWO_COLUMNS * count / 3) if count < 3 else TWO_COLUMNS
    scale = active_style().scale
    figure = Figure(figsize=(width * scale, 3.4 * scale), layout="constrained")
    cast(Any, figure.get_layout_engine()).set(wspace=0.05)  # labels of an axis do not touch the panel before it
    return list(figure.subplots(1, count, squeeze=False)[0])


def _draw(panel: Axes, curve: Evolution, color: Any, style: str, raw: bool, log: bool) -> None:
    band = 0.2 if style == "-" else 0.1  # of several splits the first one leads
    if raw and curve.window > 1:
        panel.plot(curve.epoch, curve.mean, style, color=color, linewidth=0.6, alpha=0.45)
    panel.plot(curve.epoch, curve.running, style, color=color, linewidth=2.0, zorder=3)
    if curve.values.shape[1] > 1:
        spread = running_average(curve.std, curve.window)
        low = curve.running - spread
        if log:
            low = np.maximum(low, 0.1 * curve.running)
        panel.fill_between(curve.epoch, low, curve.running + spread, color=color, alpha=band, linewidth=0)


def _dress(panel: Axes, name: str, curves: list[_Curve], log: bool) -> None:
    height = panel.get_position().height * cast(Figure, panel.get_figure(root=True)).get_figheight()
    panel.set_ylabel(textwrap.fill(_quantity(name, curves), max(8, int(height / LETTER / active_style().scale))))
    panel.spines[["top", "right"]].set_visible(False)
    if not log:
        return
    if not any((curve.mean > 0).any() for *_, curve in curves):
        raise InputError(f"{OWNER}: {name} is nowhere above 0, so it has no logarithm; leave it out of log")
    panel.set_yscale("log", nonpositive="mask")
    low, high = panel.get_ylim()
    decades = math.log10(high / low)
    if decades < DECADES:  # powers of ten would be too few
        panel.yaxis.set_major_locator(MaxNLocator(4) if decades < 0.7 else LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(lambda value, _: _plain(value))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    """0.05 and 20000, but 2 x 10^5."""
    if value == 0 or 1e-3 <= abs(value) < 99999.5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return rf"${float(mantissa):g} \times 10^{{{int(exponent)}}}$"


def _quantity(name: str, curves: list[_Curve]) -> str:
    """How a quantity is written beside an axis: `NTK entropy (500 points)` where that is what was recorded."""
    _, split, curve = curves[0]
    plain = name.replace("_{split}", "")
    if split is not None:
        base, _, rest = curve.name.partition(f"_{split}")
        plain = base if base else plain
        details = rest.strip("_").replace("_", ", ")
    else:
        details = ""
    details = re.sub(r"(\d)points", r"\1 points", details)
    return f"{readable(plain)} ({details})" if details else readable(plain)


def _label_epochs(panels: list[Axes], last: float, log_x: bool) -> None:
    for panel in panels:
        if log_x:
            panel.set_xscale("function", functions=(np.log1p, np.expm1))
            if last >= 10:
                panel.set_xticks([0, *(10.0**k for k in range(int(math.log10(last)) + 1))])
                panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlim(0, last if last > 0 else 1)
        below = [other for other in panels if other.get_position().y1 < panel.get_position().y0]
        if not any(panel.get_shared_x_axes().joined(panel, other) for other in below):
            panel.set_xlabel("epoch")
    cast(Figure, panels[0].get_figure(root=True)).align_ylabels(panels)


def _legend(panels: list[Axes], colors: dict[str, Any], splits: list[tuple[str, str]], own_figure: bool) -> None:
    """Above a figure of its own, and otherwise to the right of the last panel: never over the data."""
    handles = [
        Line2D([], [], color=color, linewidth=2.0, label=textwrap.fill(printable(key), 44))
        for key, color in colors.items()
        if key
    ]
    handles += [
        Line2D([], [], color="0.25", linestyle=cast(Any, style), linewidth=2.0, label=split) for split, style in splits
    ]
    if not handles:
        return
    shared: dict[str, Any] = {"handles": handles, "frameon": False, "handlelength": 2.0}
    if own_figure:
        figure = cast(Figure, panels[0].get_figure(root=True))
        lines = [line for handle in handles for line in str(handle.get_label()).split("\n")]
        widest = (
            max(TextPath((0, 0), line, size=active_style().letters).get_extents().width for line in lines) / 72 + 0.75
        )  # inches
        columns = max(1, min(int(figure.get_figwidth() / widest), len(handles)))
        rows = math.ceil(len(handles) / columns)
        figure.set_figheight(
            figure.get_figheight() + max(0, rows - 2) * 0.25 * active_style().scale
        )  # not at the cost of the panels
        figure.legend(loc="outside upper center", ncols=columns, columnspacing=1.2, **shared)
    else:
        corner = max(panels, key=lambda panel: (panel.get_position().x1, panel.get_position().y1))
        corner.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, **shared)


def _write_above(panel: Axes, title: str | None, note: str | None) -> None:
    if title:
        panel.set_title(printable(title), loc="left", pad=(22.0 if note else 6.0) * active_style().scale)
    if note:
        panel.annotate(
            note, (0.0, 1.02), xycoords="axes fraction", ha="left", va="bottom", color=NOTICE, fontsize="medium"
        )
