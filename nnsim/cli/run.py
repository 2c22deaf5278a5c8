"""`nnsim run`: an input script becomes a trajectory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from nnsim.cli.options import OutputPath, debug_option
from nnsim.cli.terminal import say
from nnsim.errors import InputError, TrajectoryError


@click.command(add_help_option=False)
@click.argument("script", type=click.Path(path_type=Path), required=False)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting of the script.")
@click.option("--steps", metavar="N", help="Total length of the run in steps (1e6 is fine), also with --resume.")
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    help="Trajectory to write; default: the script's own, or SCRIPT.zarr in this folder.",
)
@click.option("--resume", is_flag=True, help="Continue the output from its newest checkpoint.")
@click.option(
    "--accept-changes", is_flag=True, help="With --resume, go on although script, code or data have changed; recorded."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--progress/--no-progress", default=True, help="Show progress and the summary.")
@click.option("-h", "--help", "wants_help", is_flag=True, help="Show this, and the settings of SCRIPT if it is given.")
@debug_option
@click.pass_context
def run(
    context: click.Context,
    script: Path | None,
    overrides: tuple[str, ...],
    steps: str | None,
    output: Path | None,
    resume: bool,
    accept_changes: bool,
    overwrite: bool,
    progress: bool,
    wants_help: bool,
) -> None:
    """Run an input script: a Python file with a function build(...) -> nnsim.Simulation.

    \b
    Examples:
      nnsim run examples/spiral_wlmd.py
      nnsim run examples/spiral_wlmd.py --set walkers=16 --set seed=3 --steps 2e4 -o short.zarr
      nnsim run examples/spiral_wlmd.py --steps 1e5 --resume
    """
    if wants_help:
        _run_help(context, script)
        return
    if script is None:
        raise click.UsageError("nnsim run needs the path of an input script; see nnsim run --help")
    length = None if steps is None else _length(steps)
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other; choose one")
    if accept_changes and not resume:
        raise InputError("--accept-changes is for a run that goes on; use it with --resume")
    default = Path(f"{script.stem}.zarr")
    with _starting(output or default, resume=resume, overwrite=overwrite, certain=output is not None):
        from nnsim.script import Script

        loaded = Script(script)
        simulation = loaded.simulation(loaded.settings(overrides, steps=length))
        path = output or Path(simulation.output or default)
        if path != (output or default):
            _move_mark(default, path)
        simulation.run(
            length, output=path, resume=resume, accept_changes=accept_changes, overwrite=overwrite, progress=progress
        )
    if progress:
        from nnsim.progress import unread

        with unread():
            say(f"trajectory: {path}")


def _run_help(context: click.Context, script: Path | None) -> None:
    say(context.get_help())
    if script is not None:
        from nnsim.script import Script

        say("\n" + Script(script).help())


def _length(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number.is_integer() or number < 0:
        raise InputError(f"--steps {text}: must be a whole number of at least 0, such as 20000 or 1e6")
    return int(number)


@contextlib.contextmanager
def _starting(path: Path, *, resume: bool, overwrite: bool, certain: bool) -> Iterator[None]:
    """Refuse an unusable output at once, and leave a mark there while the (slow) imports and the set-up go on.

    A run that is killed this early can then be repeated with --resume like any other. Unless the path is `certain`,
    the script may still name another one, and refusing is left to the run.
    """
    from nnsim.trajectory import is_starting

    exists = os.path.exists(path)  # False also where looking is not allowed, which the mark then reports
    if certain and exists and not resume and not is_starting(path):
        _refuse_existing(path, overwrite)
    if certain and resume and not exists:
        raise TrajectoryError(f"{path}: nothing to resume there; start without --resume, or check the path")
    marks = not exists and not resume
    if marks:
        _mark(path)
    try:
        yield
    finally:
        if marks:
            _unmark(path)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    from nnsim.trajectory_layout import looks_like_trajectory

    if not looks_like_trajectory(path):
        raise TrajectoryError(
            f"{path} exists and is not an nnsim trajectory, so it is left alone; choose another --output"
        )
    if not overwrite:
        raise TrajectoryError(
            f"{path} exists already; use --overwrite to replace it, --resume to continue it, or another --output"
        )


def _mark(path: Path) -> None:
    from nnsim.trajectory import STARTING

    try:
        path.mkdir(parents=True)
        (path / STARTING).touch()
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error


def _unmark(path: Path) -> None:
    from nnsim.trajectory import STARTING, is_starting

    if is_starting(path):
        (path / STARTING).unlink(missing_ok=True)
        path.rmdir()


def _move_mark(guessed: Path, path: Path) -> None:
    """Put the mark, of this run or of one that was killed early, where the script wants the trajectory."""
    from nnsim.trajectory import is_starting

    if is_starting(guessed):
        if not path.exists():
            _mark(path)
        _unmark(guessed)
