"""`nnsim run`: an input script becomes a trajectory."""

from __future__ import annotations

from pathlib import Path

import click

from nnsim.cli.options import OutputPath, debug_option, length_of, set_option, start_options, start_states
from nnsim.cli.terminal import say
from nnsim.errors import InputError


@click.command(add_help_option=False)
@click.argument("script", type=click.Path(path_type=Path), required=False)
@set_option
@click.option("--steps", metavar="N", help="Total length of the run in steps (1e6 is fine), also with --resume.")
@start_options
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
    start: Path | None,
    start_frame: int | None,
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
      nnsim run examples/spiral_wlmd.py --start trained.zarr
    """
    if wants_help:
        _run_help(context, script)
        return
    if script is None:
        raise click.UsageError("nnsim run needs the path of an input script; see nnsim run --help")
    length = None if steps is None else length_of(steps)
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other; choose one")
    if accept_changes and not resume:
        raise InputError("--accept-changes is for a run that goes on; use it with --resume")
    default = Path(f"{script.stem}.zarr")
    from nnsim.cli.claim import Claim

    with Claim(output or default, resume=resume, overwrite=overwrite, certain=output is not None) as claim:
        from nnsim.running.script import Script

        starts = start_states(start, start_frame, resume)  # before the script, which may go to another folder
        loaded = Script(script)
        simulation = loaded.simulation(loaded.settings(overrides, steps=length))
        if starts is not None:
            simulation.set_positions(starts)
        path = output or Path(simulation.output or default)
        simulation.run(
            length,
            output=claim.moved(path),
            resume=resume,
            accept_changes=accept_changes,
            overwrite=overwrite,
            progress=progress,
        )
    if progress:
        from nnsim.running.progress import unread

        with unread():
            say(f"trajectory: {path}")


def _run_help(context: click.Context, script: Path | None) -> None:
    say(context.get_help())
    if script is not None:
        from nnsim.running.script import Script

        say("\n" + Script(script).help())
