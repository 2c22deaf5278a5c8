"""`nnsim movie`: a film of a run."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, cast

import click

from nnsim.cli.options import (
    OutputPath,
    bias_option,
    debug_option,
    may_overwrite,
    overwrite_option,
    trajectory_argument,
)
from nnsim.cli.pictures import style_option
from nnsim.cli.terminal import say


@click.command()
@trajectory_argument
@click.option("-o", "--output", type=OutputPath(), help="The film to write, .mp4 or .gif.")
@click.option("--fps", default=20.0, show_default=True, help="Frames per second.")
@click.option("--seconds", default=10.0, show_default=True, help="Length; less if fewer frames were recorded.")
@click.option("--walkers", default=20, show_default=True, help="At most so many walkers are drawn.")
@bias_option
@style_option
@overwrite_option
@debug_option
def movie(trajectory: Path, output: Path | None, fps: float, seconds: float, walkers: int, bias: str | None) -> None:
    """Film how the landscape of one or two CVs fills while the walkers move.

    \b
    Examples:
      nnsim movie spiral_wlmc.zarr -o run.mp4
      nnsim movie spiral_wlmc.zarr -o run.gif --fps 10 --seconds 5 --walkers 4
    """
    from nnsim import plotting

    path = output or Path(f"{trajectory.absolute().name.removesuffix('.zarr')}.mp4")
    options = {"bias": bias, "fps": fps, "seconds": seconds, "walkers": walkers, "overwrite": may_overwrite()}
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []  # made at the first frame, when their number is known

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(click.progressbar(length=total, label="movie", file=sys.stderr)))
            bars[0].update(1)

        progress = show if sys.stderr.isatty() else None
        film = plotting.make_movie(trajectory, path, progress=progress, **cast(Any, options))
    say(f"movie: {film.path}, {film.frames} frames, {film.seconds:.3g} s")
