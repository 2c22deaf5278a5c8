"""A film of a run: the landscape fills while the walkers move."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, CalledProcessError, Popen
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import common_steps, opened
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, TrajectoryError, require_integer, require_number, require_path
from nnsim.files import MARK, is_marked, whole
from nnsim.installation import extra
from nnsim.plotting.paths import choose_walkers, cut_at_edges
from nnsim.plotting.style import COLORS, active_style, frame, new_axes, readable, styled
from nnsim.plotting.tables import BiasTables

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "make_movie"
FORMATS = (".mp4", ".gif")
PIXELS_WIDE = 800.0  # of the picture, whatever its style
TAIL = 8  # earlier frames of the film that a walker's path is drawn over
GIF_BYTES = 250_000_000  # of all frames, which Pillow holds until the last one


@dataclass(frozen=True)
class Movie:
    """A film that was written.

    Attributes:
        path: the file.
        frames: how many it has.
        fps: frames per second.
        steps: of the run that the frames show, [frames].
    """

    path: Path
    frames: int
    fps: float
    steps: NDArray[np.int64] = field(repr=False)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.fps


def make_movie(
    trajectory: Trajectory | str | Path,
    path: str | Path,
    *,
    bias: str | None = None,
    fps: float = 20.0,
    seconds: float = 10.0,
    walkers: int = 20,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Movie:
    r"""Film how the bias of one or two CVs grows while walkers move, as .mp4 or .gif.

    One CV: minus the final entropy as a landscape, -S(s), filled up to the level -S(s) + V(s, t) / kT, less the
    smallest V over the bins visited by the end, since only differences of V matter. The walkers stand on the level;
    once the run has converged it is flat and touches the highest hill. Two CVs: V(s, t) / kT as a colour and the
    walkers as dots with short tails. Each frame shows the newest recorded values and the newest snapshot of the bias at
    its moment; nothing is made up between them. The frames are evenly spread over the recorded ones, and no more than
    these. Values are read as they are drawn, so memory does not grow with the run.

    Args:
        trajectory: of a run with a Wang-Landau, metadynamics or OPES bias, or its path.
        path: ending in `.mp4` (H.264, readable by browsers; needs the package imageio-ffmpeg) or `.gif`.
        bias: its name, if there are several.
        fps: frames per second, above 0.
        seconds: length, above 0; shorter if fewer frames than fps x seconds were recorded.
        walkers: at most so many are drawn, evenly spread, at least 1.
        overwrite: replace a file that is no film of nnsim, as its metadata tell.
        progress: called with the number of frames done and of all frames.

    Returns:
        What was written.

    Raises:
        InputError: another ending, a folder that does not exist, a bias of three or more CVs, CVs that were not
            recorded, a .gif that would need too much memory, a missing imageio-ffmpeg, or a path of something else.
    """
    target = _target(path)
    rate = require_number(OWNER, "fps", fps, above=0.0)
    length = require_number(OWNER, "seconds", seconds, above=0.0)
    run = opened(trajectory)
    tables = BiasTables(run, bias)
    if len(tables.axes) > 2:
        raise InputError(f"{OWNER}: a bias of {len(tables.axes)} CVs cannot be filmed, only one of 1 or 2; plot slices")
    unknown = [name for name in tables.names if name not in run]
    if unknown:
        raise InputError(f"{OWNER}: {', '.join(unknown)} was not recorded; observe it in the run")
    steps = common_steps(run, list(tables.names), -1)
    count = min(len(steps), max(1, round(rate * length)))
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, count).round().astype(np.int64))]
    chosen = choose_walkers(
        OWNER, run[tables.names[0]].shape[1], None, require_integer(OWNER, "walkers", walkers, least=1)
    )
    film = Movie(target, len(steps), rate, steps)
    with styled():
        scene = (_Valley if len(tables.axes) == 1 else _Plane)(tables, len(chosen))
        _settle(scene)
        with rc_context(_ffmpeg() if target.suffix == ".mp4" else {}):
            _write(film, scene, _positions(run, tables.names, steps, chosen), overwrite, progress)
    return film


def _target(path: str | Path) -> Path:
    target = require_path(OWNER, "path", path)
    if target.suffix not in FORMATS:
        raise InputError(f"{OWNER}: {str(path)!r} must end in {' or '.join(FORMATS)}; change the name")
    if not target.parent.is_dir():
        raise InputError(f"{OWNER}: the folder of {str(path)!r} does not exist; make it first")
    return target


def _positions(run: Trajectory, names: tuple[str, ...], steps: NDArray[np.int64], walkers: list[int]) -> Floats:
    """Values of the CVs, [frames, walkers drawn, CVs]; only what is drawn is read."""
    columns = [run[name][np.searchsorted(run[name].step, steps).tolist()] for name in names]
    return np.stack([np.asarray(column, dtype=np.float64)[:, walkers] for column in columns], axis=-1)


# ---------------------------------------------------------------------------------------------------------- the scenes


class _Scene:
    """The axes of a film, and what moves in them."""

    def __init__(self, tables: BiasTables, walkers: int) -> None:
        self.tables = tables
        style = active_style()
        self.ax: Axes = new_axes(1, 3.9)[0]
        self.figure = cast(Figure, self.ax.figure)
        self.dpi = PIXELS_WIDE / style.width
        self.scale = style.scale
        self.ax.set_xlabel(readable(tables.names[0]))
        self.ax.set_title(" ", loc="left")
        self._shown = -2

    def show(self, step: int, places: Floats) -> None:
        """Draw the moment `step`; `places` are the walkers', [tail, walkers, CVs], the last row now."""
        index = int(np.searchsorted(self.tables.steps, step, side="right")) - 1
        if index != self._shown:
            self._shown = index
            self.fill(None if index < 0 else self.tables.at(index))
        self.move(places)
        known = 0 if index < 0 else int(self.tables.steps[index])
        late = "" if known == step else f", bias of step {known:,}"
        self.ax.set_title(f"step {step:,}{late}", loc="left")

    def fill(self, values: Floats | None) -> None:
        """Show V / kT, NaN where not visited; None before the first snapshot."""
        raise NotImplementedError

    def move(self, places: Floats) -> None:
        """Show the walkers."""
        raise NotImplementedError


class _Valley(_Scene):
    """One CV: the landscape -S fills."""

    def __init__(self, tables: BiasTables, walkers: int) -> None:
        super().__init__(tables, walkers)
        known = tables.final.visited
        final = np.where(known, tables.gain * tables.at(len(tables) - 1), np.nan)  # with the walls, as walkers feel it
        self.x, self.ground = tables.axes[0].centers, np.nanmax(final) - final
        levels = [float(np.nanmax(self._level(tables.at(int(index))))) for index in tables.spread(20)]
        highest = max(*levels, float(np.nanmax(self.ground)))
        frame(self.ax, (self.x[known][0], self.x[known][-1]))
        self.ax.set_ylim(-0.04 * highest, 1.08 * highest)
        self.ax.fill_between(self.x, -0.04 * highest, self.ground, color="0.8", linewidth=0)
        self.ax.plot(self.x, self.ground, color="0.25", linewidth=1.6 * self.scale, label="$-S$ at the end")
        self.ax.locator_params(axis="x", nbins=6)
        self.ax.set_ylabel("$-S$, filled by $V/kT$ (nats)")
        self.level = self.ground
        self.water = self.ax.fill_between(self.x, self.ground, self.ground, color=COLORS[5], linewidth=0)
        self.dots: Line2D = _dots(self.ax, walkers, self.scale)

    def _level(self, values: Floats) -> Floats:
        height = np.nan_to_num(values) * self.tables.gain
        return np.asarray(self.ground + height - height[self.tables.final.visited].min())

    def fill(self, values: Floats | None) -> None:
        """Raise the level to -S + V / kT."""
        self.level = self.ground if values is None else self._level(values)
        self.water.set_data(self.x, self.ground, self.level)

    def move(self, places: Floats) -> None:
        """Put the walkers on the level."""
        now = self.tables.axes[0].wrap(places[-1, :, 0])
        known = np.isfinite(self.level)
        self.dots.set_data(now, np.interp(now, self.x[known], self.level[known]))


class _Plane(_Scene):
    """Two CVs: the bias as a colour."""

    def __init__(self, tables: BiasTables, walkers: int) -> None:
        super().__init__(tables, walkers)
        x, y = tables.axes
        final = tables.at(len(tables) - 1)
        self.mesh = self.ax.pcolormesh(
            x.edges, y.edges, _masked(final), cmap="viridis", vmin=0.0, vmax=max(float(np.nanmax(final)), 1e-9),
            rasterized=True,
        )  # fmt: skip
        self.figure.colorbar(self.mesh, ax=self.ax, pad=0.02).set_label("bias $V/kT$")
        self.ax.set_ylabel(readable(y.name))
        columns, rows = (np.flatnonzero(tables.final.visited.any(axis=other)) for other in (1, 0))
        self.ax.set_xlim(x.edges[columns[0]], x.edges[columns[-1] + 1])
        self.ax.set_ylim(y.edges[rows[0]], y.edges[rows[-1] + 1])
        self.tails = [
            self.ax.plot([], [], color=COLORS[1], linewidth=1.0 * self.scale, alpha=0.6, zorder=2)[0]
            for _ in range(walkers)
        ]
        self.dots = _dots(self.ax, walkers, self.scale)

    def fill(self, values: Floats | None) -> None:
        """Colour the bins visited so far."""
        empty = np.full(self.tables.final.entropy.shape, np.nan)
        self.mesh.set_array(_masked(empty if values is None else values))

    def move(self, places: Floats) -> None:
        """Put the walkers where they are, with their tails."""
        paths = [cut_at_edges(places[:, walker], self.tables.axes) for walker in range(places.shape[1])]
        self.dots.set_data(*np.array([path[-1] for path in paths]).T)
        for path, line in zip(paths, self.tails, strict=True):
            line.set_data(*path.T)


def _masked(values: Floats) -> Any:
    return np.ma.masked_invalid(values).T


def _dots(ax: Axes, walkers: int, scale: float) -> Line2D:
    size = float(np.clip(30 / math.sqrt(walkers), 4.0, 9.0)) * scale
    edge = {"markeredgecolor": "white", "markeredgewidth": 1.0 * scale, "zorder": 3}
    line = ax.plot([], [], "o", markersize=size, color=COLORS[1], clip_on=False, **cast(Any, edge))[0]
    line.set_in_layout(False)  # without data it would be taken to lie in the corner of the figure
    return line


def _settle(scene: _Scene) -> None:
    """Lay the figure out once: axes that move from frame to frame would tremble."""
    scene.figure.set_dpi(scene.dpi)
    canvas = FigureCanvasAgg(scene.figure)
    for _ in range(2):  # the second time with the tick labels that fit the first layout
        canvas.draw()
    scene.figure.set_layout_engine("none")
    width, height = scene.figure.get_size_inches() * scene.dpi
    even = [2 * max(1, round(pixels / 2)) / scene.dpi for pixels in (width, height)]  # H.264 wants even numbers
    scene.figure.set_size_inches(*even)


# ------------------------------------------------------------------------------------------------------------- writing


def _ffmpeg() -> dict[Any, Any]:
    ffmpeg = extra(f"{OWNER}: an .mp4", "imageio_ffmpeg", instead="write a .gif").get_ffmpeg_exe()
    return {"animation.ffmpeg_path": ffmpeg}


def _write(
    film: Movie, scene: _Scene, places: Floats, overwrite: bool, progress: Callable[[int, int], None] | None
) -> None:
    frames = _frames(film, scene, places, progress)
    try:
        with whole(film.path, overwrite=overwrite, kind="film", ours=is_marked) as partial:
            if film.path.suffix == ".mp4":
                _write_mp4(film, scene, frames, partial)
            else:
                _write_gif(film, scene, frames, places[-1:], partial)
    except TrajectoryError as problem:
        raise InputError(f"{OWNER}: {problem}") from problem


def _frames(film: Movie, scene: _Scene, places: Floats, progress: Callable[[int, int], None] | None) -> Any:
    """Set the scene for one frame after the other."""
    for number, step in enumerate(film.steps):
        scene.show(int(step), places[max(0, number - TAIL) : number + 1])
        yield number
        if progress is not None:
            progress(number + 1, film.frames)


def _write_mp4(film: Movie, scene: _Scene, frames: Any, path: Path) -> None:
    from matplotlib.animation import FFMpegWriter

    class Writer(FFMpegWriter):
        """In a session of its own: ffmpeg would end by a signal to all that this process is told to ignore."""

        def _run(self) -> None:
            command = self._args()  # type: ignore[attr-defined]
            self._proc = Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True)

    writer = Writer(
        fps=cast(int, film.fps),
        codec="h264",
        metadata={"comment": MARK},
        extra_args=["-crf", "20", "-movflags", "+faststart"],
    )
    try:
        with writer.saving(scene.figure, str(path), scene.dpi):
            for _ in frames:
                writer.grab_frame()
    except CalledProcessError as error:
        raise OSError(f"ffmpeg ended with exit status {error.returncode}") from error


def _write_gif(film: Movie, scene: _Scene, frames: Any, last: Floats, path: Path) -> None:
    from PIL import Image

    canvas = FigureCanvasAgg(scene.figure)
    width, height = canvas.get_width_height()
    if width * height * film.frames > GIF_BYTES:
        most = GIF_BYTES // (width * height)
        raise InputError(f"{OWNER}: a .gif of {film.frames} frames needs too much memory; take .mp4, or at most {most}")

    def picture() -> Any:
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    # one palette for all frames, of the one with the most colours: they do not flicker
    scene.show(int(film.steps[-1]), last)
    palette = picture().quantize(256, method=Image.Quantize.MAXCOVERAGE)
    colors = np.array(palette.getpalette()).reshape(-1, 3)
    colors[colors.min(axis=1) > 230] = 255  # the background, which would be nearly white
    palette.putpalette(colors.ravel().tolist())

    def images() -> Any:
        for _ in frames:
            yield picture().quantize(palette=palette, dither=Image.Dither.NONE)

    drawn = images()
    duration = max(20, 10 * round(100 / film.fps))  # milliseconds; a GIF counts hundredths, and browsers two at least
    first = next(drawn)
    first.save(path, format="GIF", save_all=True, append_images=drawn, duration=duration, loop=0, comment=MARK)
