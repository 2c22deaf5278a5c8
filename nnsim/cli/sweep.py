"""`nnsim sweep`: an input script at many settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.options import OutputPath, debug_option, length_of
from nnsim.cli.terminal import cell, say
from nnsim.errors import NNSimError, printable

if TYPE_CHECKING:
    from nnsim.running.sweep import Point, Sweep

MOST_LISTED = 3  # failed points in the one line of the error


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=V1,V2,...",
    help='Values of a setting of the script; several times for all combinations. "hidden=6,6;12,12" for tuples.',
)
@click.option("--seeds", type=int, metavar="N", help="Run each setting with seed = 0 to N - 1.")
@click.option("--jobs", type=int, default=1, show_default=True, help="How many points run at the same time.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting for all points.")
@click.option("--steps", metavar="N", help="Total length of each run in steps; greater than before goes on.")
@click.option("-o", "--output", type=OutputPath(), help="Folder of the sweep; default: SCRIPT-sweep in this folder.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Go on although the script has changed; points that are done stay as they are.",
)
@click.option("--overwrite", is_flag=True, help="Remove the points of an earlier sweep in the folder first.")
@click.option("--progress/--no-progress", default=True, help="Show progress and the summary.")
@debug_option
def sweep(
    script: Path,
    grid: tuple[str, ...],
    seeds: int | None,
    jobs: int,
    overrides: tuple[str, ...],
    steps: str | None,
    output: Path | None,
    accept_changes: bool,
    overwrite: bool,
    progress: bool,
) -> None:
    """Run an input script at every combination of settings, each in a folder and a process of its own.

    The same command repeated goes on after a stop or a crash: points that are done are skipped, those begun are
    resumed, and those that failed are tried again; a failed point does not stop the others. The same command with more
    values or more --steps adds to the sweep. Each run has (cores / jobs) threads, unless OMP_NUM_THREADS is set.

    FOLDER/sweep.csv is the table of the results, up to date after each point: settings, status, steps, seconds, and of
    each observable the mean over the walkers in the first and the last frame. FOLDER/POINT/run.zarr is a trajectory
    like any other, and FOLDER/POINT/log.txt what its run printed.

    \b
    Examples:
      nnsim sweep input.py --grid width=10,30,100 --grid depth=1,2,3 --seeds 3 --jobs 2
      nnsim sweep input.py --grid "hidden=6,6;12,12" --set walkers=4 --steps 1e4 -o shapes
      nnsim plot map input-sweep --x width --y depth --value ln_loss_train_last
    """
    length = None if steps is None else length_of(steps)
    from nnsim.running.script import Script
    from nnsim.running.sweep import Sweep

    planned = Sweep(
        Script(script),
        output or Path(f"{script.stem}-sweep"),
        grid=grid,
        seeds=seeds,
        overrides=overrides,
        steps=length,
        jobs=jobs,
        overwrite=overwrite,
        accept_changes=accept_changes,
    )
    begin = time.monotonic()
    display = sweep_display() if progress else None
    try:
        planned.run(display)
    finally:
        if display is not None:
            display.stop()
            if planned.records:
                _print_summary(planned, time.monotonic() - begin)
    _raise_failures(planned)


def _raise_failures(planned: Sweep) -> None:
    failures = planned.failures()
    if failures:
        listed = "; ".join(f"{name}: {message}" for name, message in list(failures.items())[:MOST_LISTED])
        more = f"; and {len(failures) - MOST_LISTED} more" if len(failures) > MOST_LISTED else ""
        raise NNSimError(
            f"{len(failures)} of {len(planned.points)} points failed ({listed}{more}); their log.txt says more, and "
            "the same command tries them again"
        )


def _print_summary(planned: Sweep, seconds: float) -> None:
    from rich.table import Table

    from nnsim.running.progress import _console, unread
    from nnsim.running.sweep import TABLE

    left = planned.count("left")
    title = "stopped before the end" if left else "finished"
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_row("points", _counts(planned))
    table.add_row("time", f"{seconds:.1f} s")
    for name, message in planned.failures().items():
        table.add_row(cell(name), f"failed: {cell(message)}")
    with unread():
        _console().print(table)
        say(f"table: {planned.output / TABLE}")


def _counts(planned: Sweep) -> str:
    return ", ".join(f"{planned.count(status)} {status}" for status in ("done", "failed", "left"))


class _Lines:
    """For logs and pipes: a line when a point ends."""

    def update(self, sweep: Sweep) -> None:
        pass

    def ended(self, sweep: Sweep, point: Point) -> None:
        from nnsim.running.progress import unread

        with unread():
            print(printable(_line(sweep, point)), flush=True)

    def stop(self) -> None:
        pass


class _Bar:
    """For terminals: a bar over the points, and below it the counts and what is running."""

    def __init__(self, console: Any) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress
        from rich.text import Text

        self._bar = Progress(BarColumn(bar_width=40), MofNCompleteColumn(), console=console)
        self._task = self._bar.add_task("", total=None)
        self._text = Text()
        self._live = Live(Group(self._bar, self._text), console=console, refresh_per_second=4)
        self._live.start()

    def update(self, sweep: Sweep) -> None:
        ended = len(sweep.points) - sweep.count("left")
        self._bar.update(self._task, completed=ended, total=len(sweep.points))
        self._text.plain = "\n".join([_counts(sweep), *(f"running {name}" for name in sweep.running)])

    def ended(self, sweep: Sweep, point: Point) -> None:
        from nnsim.running.progress import unread

        self.update(sweep)
        if sweep.records[point.name]["status"] == "failed":
            with unread():
                self._live.console.print(printable(_line(sweep, point)), markup=False, highlight=False)

    def stop(self) -> None:
        from nnsim.running.progress import unread

        with unread():
            self._live.stop()


def sweep_display() -> _Bar | _Lines:
    """A progress bar on a terminal, and a line for each point that has ended elsewhere."""
    from nnsim.running.progress import _console

    console = _console()
    return _Bar(console) if console.is_terminal else _Lines()


def _line(sweep: Sweep, point: Point) -> str:
    record, total = sweep.records[point.name], len(sweep.points)
    said = record["message"] if record["status"] == "failed" else f"{record['steps']} steps"
    return f"{total - sweep.count('left')}/{total} {record['status']}: {point.name}: {said} ({record['seconds']:.1f} s)"
