"""How all pictures look, and how they are made and saved.

Pictures are designed at a width of 5 inches with letters of 12 points, which are 8 points where the picture is printed
at the width of one column, 3.4 inches. `use_style` makes them at their final size instead, for paper or for slides.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from nnsim.arithmetic import in_brackets, operation_of
from nnsim.errors import (
    InputError,
    TrajectoryError,
    printable,
    require_choice,
    require_number,
    require_path,
    require_text,
    shown,
)
from nnsim.files import MARK, is_marked, whole

WIDTH = 5.0  # inches
LEAST_DPI, MOST_DPI = 10.0, 10_000.0  # letters of less than a pixel, and pictures of gigabytes, cannot be drawn
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
NTK = "entropy|trace|covariance_entropy|magnitude_entropy|magnitude_variance|spectrum"
# Time from dark to light; without the end of viridis, whose yellow cannot be seen as a line on white.
TIME = LinearSegmentedColormap.from_list("time", colormaps["viridis"](np.linspace(0.0, 0.9, 256)))


@dataclass(frozen=True)
class Style:
    """Sizes of pictures for one purpose.

    Args:
        width: of a picture, in inches.
        letters: their size, in points.
        heights: what the heights of the design, 5 inches wide, are multiplied by.
        dpi: pixels per inch of a picture made of pixels.
    """

    width: float
    letters: float
    heights: float
    dpi: float

    @property
    def scale(self) -> float:
        """Letters, lines and margins in proportion to those of the design."""
        return self.letters / 12.0


STYLES = {
    "screen": Style(WIDTH, 12.0, 1.0, 150.0),
    "column": Style(3.4, 8.0, 0.68, 300.0),  # one column of a journal
    "wide": Style(7.0, 8.0, 0.9, 300.0),  # both columns
    "slides": Style(10.0, 18.0, 1.5, 150.0),
}
_active: ContextVar[str] = ContextVar("style", default="screen")


@contextmanager
def use_style(name: str) -> Iterator[Style]:
    """Make the pictures inside the `with` block at their final size.

    | style | width | letters | for |
    |---|---|---|---|
    | `"screen"` | 5 inches | 12 points | the default; 8 points where printed 3.4 inches wide |
    | `"column"` | 3.4 inches | 8 points | one column of a journal |
    | `"wide"` | 7 inches | 8 points | both columns |
    | `"slides"` | 10 inches | 18 points | slides of 16:9 |

    >>> from nnsim.plotting.style import use_style
    >>> with use_style("column") as style:
    ...     style.width
    3.4

    Args:
        name: of the style.

    Raises:
        InputError: an unknown style.
    """
    token = _active.set(require_choice("use_style", "style", name, STYLES))
    try:
        yield STYLES[name]
    finally:
        _active.reset(token)


def active_style() -> Style:
    """The style that pictures are made in now."""
    return STYLES[_active.get()]


def styled() -> AbstractContextManager[None]:
    """Matplotlib's settings of the active style, inside a `with` block."""
    scale = active_style().scale
    scaled = {key: value * scale if isinstance(value, (int, float)) else value for key, value in STYLE.items()}
    scaled["pdf.fonttype"] = STYLE["pdf.fonttype"]
    if scale != 1.0:
        ticks = [f"{which}tick.{kind}" for which in "xy" for kind in ("major", "minor")]
        lengths = [f"{tick}.{part}" for tick in ticks for part in ("size", "width", "pad")]
        others = ("lines.markersize", "axes.labelpad", "axes.titlepad", "patch.linewidth", "hatch.linewidth")
        usual: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
        scaled |= {key: usual[key] * scale for key in (*lengths, *others)}
    return matplotlib.rc_context(scaled)


_SIGNS = {"plus": "+", "minus": "−", "times": "×", "over": "/"}


def readable(name: str) -> str:
    r"""Return the name of a CV or observable as it is written beside an axis.

    >>> readable("ln_loss_train"), readable("10x_smoothed_accuracy_test")
    ('ln $L_\\mathrm{train}$', '10 × smoothed test accuracy')
    >>> readable("ntk_entropy_train_200points")
    'NTK entropy (train, 200 points)'
    >>> readable("accuracy_train_minus_accuracy_test")
    'train accuracy − test accuracy'
    """
    if operation := operation_of(require_text("readable", "name", name)):
        return _combined(*operation)
    if inner := in_brackets(name):
        return f"({readable(inner)})"
    if match := re.fullmatch(r"([0-9.]+)x_(.+)", name):
        return f"{match[1]} × {readable(match[2])}"
    if name.startswith("logit_"):
        return f"logit of {readable(name.removeprefix('logit_'))}"
    if match := re.fullmatch(r"(ln_)?loss_(\w+)", name):
        split = match[2].replace("_", r"\ ")
        return ("ln " if match[1] else "") + rf"$L_\mathrm{{{split}}}$"
    if match := re.fullmatch(r"(smoothed_)?accuracy_(train|test)(?:_slope([^_]+))?", name):
        slope = f", slope {match[3]}" if match[3] else ""
        return f"{'smoothed ' if match[1] else ''}{match[2]} accuracy{slope}"
    if match := re.fullmatch(r"(ln_)?energy", name):
        return ("ln " if match[1] else "") + "$E$"
    if match := re.fullmatch(rf"ntk_({NTK})(?:_(\w+))?", name):
        return f"NTK {match[1].replace('_', ' ')}" + (f" ({_details(match[2])})" if match[2] else "")
    return re.sub(r"\bntk\b", "NTK", name.replace("_", " "))


def _combined(left: str, word: str, right: str) -> str:
    """An operation on two names, or of one below 0."""
    first, second = (readable(one) for one in (left, right))
    if word == "power":
        first = f"({first})" if " " in first and not in_brackets(left) else first
        return f"{first}$^{{{right.strip('()')}}}$"
    if not left:
        return f"−{second}"
    return f"{first} {_SIGNS[word]} {second}"


def _details(text: str) -> str:
    """Settings in the name of a CV of the tangent kernel: `train, class 3, 5 × 200 points`."""
    words = []
    for part in text.replace("per_row", "per row").split("_"):
        part = re.sub(r"^(\d+)x(\d+)points$", r"\1 × \2 points", part)
        words.append(re.sub(r"^(\d+)points$|^(class|seed)(\d+)$", lambda m: _spaced(m), part))
    return ", ".join("all outputs" if word == "all" else word for word in words)


def _spaced(match: re.Match[str]) -> str:
    return f"{match[1]} points" if match[1] else f"{match[2]} {match[3]}"


def save(
    target: Axes | Figure | Sequence[Axes], path: str | Path, dpi: float | None = None, *, overwrite: bool = False
) -> Path:
    """Write a figure to a file, which appears whole or not at all, in the format that the ending of its name says.

    A picture that nnsim has made is replaced, as its metadata tell; any other file only with `overwrite`.

    Args:
        target: the figure, or any of its axes.
        path: for example `landscape.png` or `landscape.pdf`.
        dpi: pixels per inch, for formats made of pixels; None is 150, or what `use_style` says.
        overwrite: replace a file that is no picture of nnsim, or whose format has no metadata (.pgf, .raw).

    Returns:
        The path written.

    Raises:
        InputError: an ending that is not known, a folder that does not exist or cannot be written to, or another file.
    """
    figure = figure_of(target)
    path = require_path("save", "path", path)
    dpi = active_style().dpi if dpi is None else require_number("save", "dpi", dpi, least=LEAST_DPI)
    if dpi > MOST_DPI:
        raise InputError(f"save: dpi = {dpi:g} must be at most {MOST_DPI:g}; lower it")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        known = ", ".join(f".{name}" for name in sorted(formats))
        raise InputError(f"save: {str(path)!r} must end in a known format; use one of {known}")
    if not path.parent.is_dir():
        raise InputError(f"save: the folder of {str(path)!r} does not exist; make it first")
    if path.is_dir():
        raise InputError(f"save: cannot write {str(path)!r}, which is a folder; choose another path")
    try:
        with whole(path, overwrite=overwrite, kind="picture", ours=is_marked) as partial, styled():
            figure.savefig(partial, dpi=dpi, **_marked(path.suffix.lower()))
    except TrajectoryError as problem:
        raise InputError(f"save: {problem}") from problem
    return path


def _marked(suffix: str) -> dict[str, Any]:
    """What `savefig` is to write into the metadata."""
    made = f"{MARK} {version('nnsim')} with Matplotlib {matplotlib.__version__}"
    if suffix == ".png":
        return {"metadata": {"Software": made}}
    if suffix in (".pdf", ".svg", ".svgz", ".eps", ".ps"):
        return {"metadata": {"Creator": made}}
    if suffix in (".jpg", ".jpeg", ".gif"):
        return {"pil_kwargs": {"comment": made.encode()}}
    if suffix in (".tif", ".tiff"):
        return {"pil_kwargs": {"software": made}}
    if suffix in (".webp", ".avif"):
        return {"pil_kwargs": {"xmp": made.encode()}}
    return {}


def figure_of(target: Axes | Figure | Sequence[Axes]) -> Figure:
    """Return the figure that axes belong to."""
    if isinstance(target, Figure):
        return target
    several: Any = [target] if isinstance(target, Axes) else target
    first = several[0] if isinstance(several, (Sequence, np.ndarray)) and len(several) else None
    if not isinstance(first, Axes):
        raise InputError(f"save: target = {shown(target)} must be a figure or axes; give what a plot function gives")
    figure = first.get_figure(root=True)
    return cast(Figure, figure)


def new_axes(rows: int, height: float) -> list[Axes]:
    """Return the panels, one above the other, of a new figure; its height is that of the design."""
    return list(new_figure(height).subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0])


def new_figure(height: float) -> Figure:
    """Return an empty figure, as wide as the style says; its height is that of the design, 5 inches wide."""
    style = active_style()
    return Figure(figsize=(style.width, height * style.heights), layout="constrained")


def small_multiples(count: int, ax: Sequence[Axes] | None, owner: str, columns: int = 3) -> list[Axes]:
    """Return the axes given, one for each picture, or those of a new figure, in rows and with shared axes."""
    if ax is not None:
        return as_panels(ax, count, owner)
    style = active_style()
    wide = style.width / style.scale  # in inches of the design, of which a panel has about 1.65
    most = max(columns, round(wide / 1.65))
    # rather a row that is full than panels of exactly this size
    across = min(count, min(range(most, max(columns, most - 2) - 1, -1), key=lambda number: -count % number))
    rows = -(-count // across)
    height = 0.8 + rows * float(np.clip(0.9 * wide / across, 1.4, 2.4))
    figure = new_figure(height * style.scale / style.heights)
    cast(Any, figure.get_layout_engine()).set(wspace=0.05)  # tick labels of neighbours do not touch
    grid = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
    for axis in (grid[0, 0].xaxis, grid[0, 0].yaxis):
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    for place, panel in enumerate(grid.flat):
        if place >= count:
            panel.remove()
        elif place + across >= count:  # the last one of its column
            panel.xaxis.set_tick_params(labelbottom=True)
    return list(grid.flat)[:count]


def step_colors(steps: ArrayLike) -> tuple[list[Any], ScalarMappable]:
    """Colours of some moments of a run, dark early and light late, and what a colour bar of the step needs."""
    step = np.asarray(steps, dtype=np.float64)
    span = Normalize(float(step.min()), max(float(step.max()), float(step.min()) + 1))
    return [TIME(span(one)) for one in step], ScalarMappable(span, TIME)


def step_bar(panels: Axes | Sequence[Axes], colors: ScalarMappable, label: str = "step") -> None:
    """A colour bar of the step beside the panels."""
    axes = [panels] if isinstance(panels, Axes) else list(panels)
    bar = axes[0].figure.colorbar(colors, ax=panels, pad=0.02)
    largest = float(cast(Any, colors.norm.vmax))
    exponent = int(np.log10(largest)) if largest >= 1e5 else 0
    bar.ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))  # steps are whole, also those of a single frame
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value / 10**exponent:g}")  # an offset would touch the bar
    bar.set_label(f"{label} ($10^{{{exponent}}}$)" if exponent else label)


def write_above(figure: Figure, heading: str | None, note: str | None) -> None:
    """Write a note and a heading above all axes of a figure, in lines as long as it is wide."""
    letters = max(20, int(10.5 / active_style().scale * figure.get_figwidth()))
    if note is not None:
        require_text("plot", "note", note)
    lines = [(printable(text), color) for text, color in ((note, NOTICE), (heading, "black")) if text]
    if not lines:
        return
    nothing = [Line2D([], [], linestyle="none") for _ in lines]
    texts = [textwrap.fill(text, letters) if "$" not in text else text for text, _ in lines]
    # a legend is what the layout leaves room for
    legend = figure.legend(nothing, texts, loc="outside upper left", frameon=False, handlelength=0, handletextpad=0)
    for text, (_, color) in zip(legend.get_texts(), lines, strict=True):
        text.set_color(color)


def fitted(label: str, inches: float) -> str:
    """A label in lines no longer than so many inches; formulas, which are short, stay whole."""
    letters = max(6, int(10.0 / active_style().scale * inches))
    return label if "$" in label else textwrap.fill(label, letters)


def as_panels(ax: Axes | Sequence[Axes] | None, count: int, owner: str, height: float = 1.7) -> list[Axes]:
    """Return the axes given, one for each panel, or those of a new figure, each so many inches high."""
    if not count:
        raise InputError(f"{owner}: no names; give at least one")
    if ax is None:
        return new_axes(count, 3.2 if count == 1 else 0.9 + height * count)
    panels = [ax] if isinstance(ax, Axes) else list(ax) if isinstance(ax, Iterable) else [ax]
    if not all(isinstance(panel, Axes) for panel in panels):
        raise InputError(
            f"{owner}: ax = {shown(ax)} must be matplotlib axes, one for each of {count} panels; give them"
        )
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


def joined(note: str | None, *more: str | None) -> str | None:
    """A note of the user's and others as one; None without any."""
    if note is not None:
        require_text("plot", "note", note)
    return "; ".join(filter(None, (note, *more))) or None


def write_note(ax: Axes, note: str | None, pad: float = 6.0) -> None:
    """Write a note above the axes, in lines as long as the axes and their colour bar are wide."""
    if note is None or not require_text("plot", "note", note):
        return
    figure, cell = cast(Figure, ax.get_figure(root=True)), ax.get_subplotspec()
    share = cell.get_topmost_subplotspec().get_position(figure).width if cell else ax.get_position().width
    scale = active_style().scale
    letters = max(20, int(11.5 / scale * share * figure.get_figwidth()))  # of 12 points, about 0.09 inches each
    ax.set_title(textwrap.fill(printable(note), letters), loc="left", fontsize="medium", color=NOTICE, pad=pad * scale)
