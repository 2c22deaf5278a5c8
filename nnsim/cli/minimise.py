"""`nnsim minimise`: the system of an input script goes down to its minima."""

from __future__ import annotations

from pathlib import Path

import click

from nnsim.cli.options import OutputPath, debug_option, length_of, set_option, start_options, start_states
from nnsim.cli.terminal import say
from nnsim.errors import InputError


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@set_option
@click.option("--of", type=click.Choice(["loss", "potential"]), help="What to minimise; default: U, or the train loss.")
@click.option(
    "--gradient-norm", type=float, default=1e-6, show_default=True, help="At which a walker has converged, in the box."
)
@click.option("--steps", metavar="N", default="1000", show_default=True, help="At most so many steps.")
@click.option("--every", type=int, default=10, show_default=True, help="Steps from frame to frame.")
@start_options
@click.option("-o", "--output", type=OutputPath(), help="Trajectory to write; default: SCRIPT_minimised.zarr.")
@click.option("--resume", is_flag=True, help="Continue the output from its newest checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--progress/--no-progress", default=True, help="Show progress and the summary.")
@debug_option
def minimise(
    script: Path,
    overrides: tuple[str, ...],
    of: str | None,
    gradient_norm: float,
    steps: str,
    every: int,
    start: Path | None,
    start_frame: int | None,
    output: Path | None,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> None:
    """Minimise the potential, or the train loss, of the walkers of an input script by L-BFGS inside the box.

    They begin where the script lets them, or at --start; its biases are left out, their CVs recorded. Runs start from
    the result with nnsim run SCRIPT --start SCRIPT_minimised.zarr.

    \b
    Examples:
      nnsim minimise examples/spiral_wlmd.py --set walkers=8
      nnsim minimise examples/spiral_wlmd.py --start trained.zarr --gradient-norm 1e-4 -o minima.zarr
    """
    length = length_of(steps)
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other; choose one")
    path = output or Path(f"{script.stem}_minimised.zarr")
    from nnsim.cli.claim import Claim

    with Claim(path, resume=resume, overwrite=overwrite, certain=True) as claim:
        from nnsim.integrators.minimise import minimisation
        from nnsim.running.script import Script

        starts = start_states(start, start_frame, resume)
        loaded = Script(script)
        built = loaded.simulation(loaded.settings(overrides))
        things = {thing.name: thing for thing, _ in built.recording.observables}
        one = minimisation(
            built.system,
            built.state.positions if starts is None else starts,
            of,
            gradient_norm=gradient_norm,
            memory=20,
            observe=[*({cv.name: cv for cv in built.force_field.cvs} | things).values()],
            walkers=built.walkers,
            every=every,
            seed=built.seed,
            precision="double",
            threads=built.threads,
        )
        one.settings, one.script = built.settings, built.script
        one.run(length, output=claim.moved(path), resume=resume, overwrite=overwrite, progress=progress)
    if progress:
        from nnsim.running.progress import unread

        with unread():
            say(f"trajectory: {path}")
