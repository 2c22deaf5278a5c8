"""The command line."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.errors import InputError, NNSimError, NNSimWarning, TrajectoryError
from nnsim.interrupt import InterruptedRun

if TYPE_CHECKING:
    from nnsim.analysis.landscape import EntropyLandscape
    from nnsim.trajectory import Trajectory

debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The picture to write, .png, .pdf or .svg."
)
trajectory_argument = click.argument("trajectory", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nnsim")
@debug_option
def cli() -> None:
    """Treat neural networks as molecular systems.

    \b
    Examples:
      nnsim run input.py                        run an input script
      nnsim run input.py --help                 its settings and their defaults
      nnsim run input.py --set width=100 --steps 1e6
      nnsim run input.py --resume               go on after a stop or a crash
      nnsim info input.zarr                     what is in a trajectory
      nnsim plot landscape input.zarr -o S.png  the entropy landscape
    """


# ---------------------------------------------------------------------- run


@cli.command(add_help_option=False)
@click.argument("script", type=click.Path(path_type=Path), required=False)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting of the script.")
@click.option("--steps", metavar="N", help="Total length of the run in steps (1e6 is fine), also with --resume.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Trajectory to write; default: the script's own, or SCRIPT.zarr in this folder.",
)
@click.option("--resume", is_flag=True, help="Continue the output from its newest checkpoint.")
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
    if wants_help or script is None:
        _run_help(context, script)
        return
    length = None if steps is None else _length(steps)
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other; choose one")
    default = Path(f"{script.stem}.zarr")
    with _starting(output or default, resume=resume, overwrite=overwrite, certain=output is not None):
        from nnsim.script import Script

        loaded = Script(script)
        simulation = loaded.simulation(loaded.settings(overrides, steps=length))
        path = output or Path(simulation.output or default)
        if path != (output or default):
            _move_mark(default, path)
        simulation.run(length, output=path, resume=resume, overwrite=overwrite, progress=progress)
    if progress:
        click.echo(f"trajectory: {path}")


def _run_help(context: click.Context, script: Path | None) -> None:
    click.echo(context.get_help())
    if script is not None:
        from nnsim.script import Script

        click.echo("\n" + Script(script).help())


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
    if certain and exists and not resume and not overwrite and not is_starting(path):
        raise TrajectoryError(
            f"{path} exists already; use --overwrite to replace it, --resume to continue it, or another --output"
        )
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


# ---------------------------------------------------------------------- info


@cli.command()
@trajectory_argument
@debug_option
def info(trajectory: Path) -> None:
    """Say what is in a trajectory; also while a run is writing it.

    \b
    Example:
      nnsim info spiral_wlmd.zarr
    """
    from nnsim.trajectory import Trajectory

    rows = describe_trajectory(Trajectory(trajectory))
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        click.echo(f"{name + ':':<{width}}{value}")


def describe_trajectory(trajectory: Trajectory) -> dict[str, str]:
    """What `nnsim info` prints, line by line."""
    header = trajectory.header
    system = header.get("system", {})
    size = sum(_product(shape) for shape in header.get("parameters", {}).values())
    versions = header.get("versions", {})
    rows = {
        "trajectory": str(trajectory.path),
        "made by": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "system": f"{system.get('type')}, {size} parameters, {header.get('walkers')} walkers",
        "integrator": _flat(header.get("integrator", {})),
        "precision, seed": f"{header.get('precision')}, {header.get('seed')}",
        "settings": _flat(header.get("settings", {})) or "none",
        "last committed step": str(trajectory.steps),
    }
    recorded = {name: trajectory[name] for name in trajectory.observables}
    particles = {"position": trajectory.positions, "velocity": trajectory.velocities}
    for name, series in {**recorded, **particles}.items():
        if series is not None:
            rows[f"  {name}"] = f"{len(series)} frames {tuple(series.shape[1:])}"
    for name in trajectory.bias_names:
        attributes = trajectory.bias(name).attrs
        rows[f"bias {name}"] = _flat(
            {key: attributes[key] for key in ("type", "increment", "deposits", "outside") if key in attributes}
        )
    return rows


def _flat(values: dict[str, Any]) -> str:
    shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values.values())
    return ", ".join(f"{name}={text}" for name, text in zip(values, shown, strict=True))


def _product(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


# ---------------------------------------------------------------------- plot


@cli.group()
def plot() -> None:
    """Draw what is in a trajectory.

    \b
    Examples:
      nnsim plot landscape run.zarr -o landscape.png
      nnsim plot timeseries run.zarr --observable ln_loss_train
      nnsim plot histogram run.zarr
    """


@plot.command()
@click.argument("trajectories", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--bias", help="Name of the Wang-Landau bias, if there are several.")
@click.option("--marginal", metavar="CV", help="Integrate all other CVs out and draw S along this one.")
@click.option("--equilibrium/--no-equilibrium", default=True, help="Draw the equilibrium value of the second CV.")
@output_option
@debug_option
def landscape(
    trajectories: tuple[Path, ...], bias: str | None, marginal: str | None, equilibrium: bool, output: Path | None
) -> None:
    """Draw the entropy landscape S, with the equilibrium value of the second CV for each value of the first.

    Several trajectories are independent runs: their landscapes are averaged.

    \b
    Examples:
      nnsim plot landscape spiral_wlmd.zarr -o landscape.png
      nnsim plot landscape run0.zarr run1.zarr run2.zarr --marginal ln_loss_train
    """
    from nnsim import plotting

    found = load_landscape(trajectories, bias)
    if marginal is not None:
        found = found.marginal(marginal)
    curve = found.equilibrium(0, 1) if equilibrium and len(found.axes) == 2 else None
    _save(plotting.plot_landscape(found, curve), output, trajectories[0], "landscape")


def load_landscape(trajectories: tuple[Path, ...], bias: str | None = None) -> EntropyLandscape:
    """The landscape of one run, or the average of several."""
    from nnsim.analysis.landscape import EntropyLandscape

    single = [EntropyLandscape.from_trajectory(path, bias) for path in trajectories]
    return single[0] if len(single) == 1 else EntropyLandscape.average(single)


@plot.command()
@trajectory_argument
@click.option("--observable", "names", multiple=True, help="What to draw; several times for several panels.")
@output_option
@debug_option
def timeseries(trajectory: Path, names: tuple[str, ...], output: Path | None) -> None:
    """Draw observables against the step; without --observable the CVs of the biases.

    \b
    Example:
      nnsim plot timeseries spiral_wlmd.zarr --observable ln_loss_train --observable kinetic_temperature
    """
    from nnsim import plotting
    from nnsim.trajectory import Trajectory

    opened = Trajectory(trajectory)
    _save(plotting.plot_timeseries(opened, names or _default_names(opened)), output, trajectory, "timeseries")


@plot.command()
@trajectory_argument
@click.option("--observable", "names", multiple=True, help="One for a histogram, two for a map.")
@output_option
@debug_option
def histogram(trajectory: Path, names: tuple[str, ...], output: Path | None) -> None:
    """Draw how often values of an observable, or pairs of values of two, were visited.

    \b
    Example:
      nnsim plot histogram spiral_wlmd.zarr --observable ln_loss_train
    """
    from nnsim import plotting
    from nnsim.trajectory import Trajectory

    opened = Trajectory(trajectory)
    _save(plotting.plot_histogram(opened, names or _default_names(opened)), output, trajectory, "histogram")


@plot.command()
@trajectory_argument
@click.option("--walker", default=0, show_default=True, help="Which walker.")
@output_option
@debug_option
def parameters(trajectory: Path, walker: int, output: Path | None) -> None:
    """Draw the parameters of one walker against the step, layer by layer.

    \b
    Example:
      nnsim plot parameters spiral_wlmd.zarr --walker 3
    """
    from nnsim import plotting
    from nnsim.trajectory import Trajectory

    _save(plotting.plot_parameters(Trajectory(trajectory), walker=walker), output, trajectory, "parameters")


def _default_names(trajectory: Trajectory) -> tuple[str, ...]:
    """The CVs of the first bias with a grid, or else the first observable."""
    for name in trajectory.bias_names:
        cvs = trajectory.bias(name).attrs.get("cvs")
        if cvs:
            return tuple(cvs[:2])
    return tuple(trajectory.observables[:1])


def _save(drawn: Any, output: Path | None, trajectory: Path, kind: str) -> None:
    from nnsim import plotting

    path = output or Path(f"{trajectory.name.removesuffix('.zarr')}_{kind}.png")
    plotting.save(drawn, path)
    click.echo(f"picture: {path}")


# ---------------------------------------------------------------------- errors


def main() -> None:
    """Entry point: every error is one line and exit status 2; with --debug a traceback comes first."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("always", NNSimWarning)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except InterruptedRun as stopped:
        click.echo(str(stopped), err=True)
        sys.exit(stopped.exit_status)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        _fail(_one_line(error), 2)


def _one_line(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, NNSimError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _fail(message: str, status: int) -> None:
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(status)


def _show_warning(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    where = "" if issubclass(category, NNSimWarning) else f"{filename}, line {lineno}: "
    click.echo(f"Warning: {where}{' '.join(str(message).split())}", err=True)
