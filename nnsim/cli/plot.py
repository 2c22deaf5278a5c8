"""`nnsim plot`: pictures of trajectories and sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnsim.cli.options import (
    between_option,
    bias_option,
    conditions_of,
    debug_option,
    open_runs,
    overwrite_option,
    picture_option,
    trajectory_argument,
)
from nnsim.cli.pictures import save_picture, style_option
from nnsim.cli.plot_evolution import evolution
from nnsim.cli.plot_growth import growth
from nnsim.cli.plot_walkers import layers, paths, spectrum
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.analysis.landscape.axes import Curve
    from nnsim.analysis.landscape.landscape import EntropyLandscape
    from nnsim.trajectory.reader import Trajectory

WIDTH = 0.5  # of the bins of a mean, in units of the CV
SCALES = ("even", "linear", "log")  # as in nnsim.plotting.maps, which imports matplotlib
NOT_JUDGED = "convergence is not judged of this bias: compare independent runs"
NO_RECORD = "convergence not known: the run is shorter than the interval of its record"


@click.group()
@debug_option
def plot() -> None:
    """Draw what is in a trajectory or a sweep.

    \b
    Examples:
      nnsim plot landscape run.zarr -o landscape.png
      nnsim plot timeseries run.zarr --observable ln_loss_train
      nnsim plot histogram run.zarr
      nnsim plot convergence run0.zarr run1.zarr run2.zarr
      nnsim plot map input-sweep --x width --y depth --value ln_loss_train_last
      nnsim plot evolution narrow.zarr wide.zarr
      nnsim plot growth run.zarr
      nnsim plot paths run.zarr --walker 0 --walker 3
      nnsim plot layers run.zarr
      nnsim plot spectrum run.zarr
    """


for command in (evolution, growth, paths, layers, spectrum):
    plot.add_command(command)


@plot.command()
@click.argument("trajectories", type=click.Path(path_type=Path), nargs=-1, required=True)
@bias_option
@click.option(
    "--marginal",
    "marginals",
    metavar="CV",
    multiple=True,
    help="Integrate all other CVs out and draw S along this one; twice for a map of two of three or more CVs.",
)
@click.option("--slices", metavar="CV", help="Of three CVs: maps at values of this one; by default the last.")
@click.option("--observable", help="Draw the equilibrium mean of this recorded observable instead of the second CV's.")
@click.option(
    "--width",
    type=float,
    show_default=str(WIDTH),
    help="Width of the bins of the mean of --observable, in units of the first CV.",
)
@click.option(
    "--training",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Draw the mean over the runs of this training trajectory too; may be given several times.",
)
@click.option("--equilibrium/--no-equilibrium", default=True, help="Draw the equilibrium curve.")
@between_option
@picture_option
@debug_option
def landscape(
    trajectories: tuple[Path, ...],
    bias: str | None,
    marginals: tuple[str, ...],
    slices: str | None,
    observable: str | None,
    width: float | None,
    training: tuple[Path, ...],
    equilibrium: bool,
    between: tuple[float, float] | None,
    output: Path | None,
) -> None:
    """Draw the entropy landscape S, with the equilibrium value of the second CV for each value of the first.

    Of three CVs it is drawn as maps of two at several values of the third. Several trajectories are independent runs:
    their landscapes are averaged. With --training the mean over classical
    training runs at the same value of the first CV is drawn as a line with its standard error. A line above the picture
    says what is not converged.

    \b
    Examples:
      nnsim plot landscape spiral_wlmd.zarr -o landscape.png
      nnsim plot landscape spiral_wlmd.zarr --observable accuracy_test
      nnsim plot landscape run0.zarr run1.zarr run2.zarr --marginal ln_loss_train
      nnsim plot landscape wl.zarr --observable accuracy_test --training sgd.zarr
    """
    from nnsim import analysis, plotting
    from nnsim.analysis.averages.kinds import of_formula
    from nnsim.analysis.landscape.learnt import grid_bias_name

    runs = open_runs(trajectories)
    found = load_landscape(runs, bias)
    if marginals:
        found = found.marginal(*marginals)
    _check_options(found, observable, width, slices)
    grows = all(grid_bias_name(run, bias) in of_formula(run, "flat_histogram") for run in runs)
    note = convergence_note(runs, between, bias) if grows else NOT_JUDGED  # its criteria are those of Wang-Landau
    if len(found.axes) == 3:
        if training:
            raise InputError("--training needs a landscape of two CVs; leave it out, or --marginal twice")
        _draw_slices(found, output, trajectories[0], slices, note)
        return
    curve, value, label = None, None, "equilibrium"
    if len(found.axes) == 2:
        value, _ = analysis.natural_value(found.names[1])
        if equilibrium and observable is None and not found.axes[1].periodic:  # which has no mean
            curve = found.equilibrium(0, 1, value=value)
        elif equilibrium and observable is not None:
            wide = WIDTH if width is None else width
            means = [analysis.equilibrium(run, found.names[0], observable, width=wide, bias=bias) for run in runs]
            curve, label = analysis.mean_curve(means), f"equilibrium {plotting.readable(observable)}"
    trained = open_runs(training)
    line, line_label = training_line(trained, found, observable) if trained else (None, "")
    drawn = plotting.plot_landscape(
        found,
        curve,
        value=value,
        equilibrium_label=label,
        training=line,
        training_label=line_label,
        note=note,
    )
    save_picture(drawn, output, trajectories[0], "landscape")


def _check_options(
    landscape: EntropyLandscape, observable: str | None, width: float | None, slices: str | None
) -> None:
    """Refuse what cannot be drawn, and options that would have no effect."""
    names = ", ".join(landscape.names)
    if len(landscape.axes) > 3:
        raise InputError(
            f"a landscape of {len(landscape.axes)} CVs cannot be drawn; name one or two of {names} with --marginal"
        )
    if slices is not None and len(landscape.axes) < 3:
        raise InputError(f"--slices {slices} needs a landscape of three CVs, but this is one of {names}; leave it out")
    for option, given in (("--observable", observable), ("--width", width)):
        if given is not None and len(landscape.axes) != 2:
            alone = " alone" if len(landscape.axes) == 1 else ""
            raise InputError(
                f"{option} {given} needs a landscape of two CVs, but this is one of {names}{alone}; leave it out"
            )
    if width is not None and observable is None:
        raise InputError(
            f"--width {width:g} is that of the mean of --observable, which is missing; give both, or neither"
        )


def load_landscape(runs: list[Trajectory], bias: str | None = None) -> EntropyLandscape:
    """The landscape of one run, or the average of several."""
    from nnsim.analysis.landscape.landscape import EntropyLandscape

    return EntropyLandscape.from_runs(runs, bias)


def training_line(runs: list[Trajectory], landscape: EntropyLandscape, observable: str | None) -> tuple[Curve, str]:
    """The curve of training runs over a landscape, and its name in the legend.

    Upwards is the observable, or else the quantity of the landscape's second CV; where only the exact accuracy was
    recorded in place of a smoothed one, it is taken. The name says what differs from the axis, and the number of runs:
    fewer and fewer reach lower levels.
    """
    from nnsim.analysis import natural_value, training_curve
    from nnsim.plotting import readable

    if len(landscape.axes) != 2:
        raise InputError("--training needs a landscape of two CVs; leave it out, or --marginal")
    axis = natural_value(landscape.names[1])[1]
    of = observable or axis
    if of not in runs[0].observables:
        of = of.removeprefix("smoothed_").partition("_slope")[0]
    found = training_curve(runs, landscape.names[0], of, spacing=0.1)
    quantity = ", " if of == axis else f" {readable(of)},\n"  # a long line would not fit into the axes
    low, high = landscape.axes[0].edges[[0, -1]]
    count = found.runs[(found.runs > 0) & (found.levels >= low) & (found.levels <= high)]
    fewest, most = (int(count.min()), int(count.max())) if len(count) else (found.total, found.total)
    number = str(most) if fewest == most else f"{fewest} to {most}"
    return found.curve(), f"{training_name(runs)}{quantity}mean of {number} runs"


def training_name(runs: list[Trajectory]) -> str:
    """Short names of the optimisers of training runs."""
    short = {"GradientDescent": "SGD"}
    kinds = dict.fromkeys(str(run.header.get("integrator", {}).get("type", "training")) for run in runs)
    return " and ".join(short.get(kind, kind) for kind in kinds)


def convergence_note(
    runs: list[Trajectory],
    between: tuple[float, float] | None = None,
    bias: str | None = None,
    cv: str | None = None,
) -> str | None:
    """A line that says that runs have not converged, with the numbers of the worst; None if all have."""
    from nnsim.analysis import diagnose, has_record

    if not all(has_record(run, bias) for run in runs):
        return NO_RECORD
    diagnoses = [diagnose(run, between=between, cv=cv, bias=bias) for run in runs]
    doubtful = [diagnosis for diagnosis in diagnoses if diagnosis.problems()]
    if not doubtful:
        return None
    return f"not converged: {min(doubtful, key=lambda diagnosis: diagnosis.round_trips)}"


@plot.command()
@click.argument("trajectories", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--cv", help="The CV of the bias along which to look; by default its first.")
@between_option
@bias_option
@picture_option
@debug_option
def convergence(
    trajectories: tuple[Path, ...],
    cv: str | None,
    between: tuple[float, float] | None,
    bias: str | None,
    output: Path | None,
) -> None:
    """Draw how Wang-Landau runs converge: increment, flatness of the histogram, change of S and round trips.

    Each point is a snapshot of the bias. Several trajectories are independent runs: a line each, and the mean of
    S(LOW) - S(HIGH) over them with its standard error. --between gives LOW and HIGH, for the round trips of --cv too.

    \b
    Examples:
      nnsim plot convergence spiral_wlmc.zarr
      nnsim plot convergence run0.zarr run1.zarr run2.zarr --between -2 0 -o convergence.png
      nnsim plot convergence spiral_wlmc.zarr --cv accuracy_test --between 0.5 0.9
    """
    from nnsim import analysis, plotting

    runs = open_runs(trajectories)
    records = analysis.convergence_records(runs, between=between, cv=cv, bias=bias)
    ends = records[0].low, records[0].high
    note = convergence_note(runs, ends, bias, records[0].cv)
    save_picture(plotting.plot_convergence(records, note=note), output, trajectories[0], "convergence")


@plot.command()
@trajectory_argument
@click.option("--observable", "names", multiple=True, help="What to draw; several times for several panels.")
@picture_option
@debug_option
def timeseries(trajectory: Path, names: tuple[str, ...], output: Path | None) -> None:
    """Draw observables against the step; without --observable the CVs of a bias, or else the first one recorded.

    \b
    Example:
      nnsim plot timeseries spiral_wlmd.zarr --observable ln_loss_train --observable kinetic_temperature
    """
    from nnsim import plotting
    from nnsim.trajectory.reader import Trajectory

    opened = Trajectory(trajectory)
    save_picture(plotting.plot_timeseries(opened, names or _default_names(opened)), output, trajectory, "timeseries")


@plot.command()
@trajectory_argument
@click.option("--observable", "names", multiple=True, help="One for a histogram, two for a map.")
@picture_option
@debug_option
def histogram(trajectory: Path, names: tuple[str, ...], output: Path | None) -> None:
    """Draw how often values of an observable, or pairs of values of two, were visited.

    \b
    Example:
      nnsim plot histogram spiral_wlmd.zarr --observable ln_loss_train
    """
    from nnsim import plotting
    from nnsim.trajectory.reader import Trajectory

    opened = Trajectory(trajectory)
    save_picture(plotting.plot_histogram(opened, names or _default_names(opened)), output, trajectory, "histogram")


@plot.command()
@trajectory_argument
@click.option("--walker", default=0, show_default=True, help="Which walker.")
@picture_option
@debug_option
def parameters(trajectory: Path, walker: int, output: Path | None) -> None:
    """Draw the parameters of one walker against the step, layer by layer.

    \b
    Example:
      nnsim plot parameters spiral_wlmd.zarr --walker 3
    """
    from nnsim import plotting
    from nnsim.trajectory.reader import Trajectory

    save_picture(plotting.plot_parameters(Trajectory(trajectory), walker=walker), output, trajectory, "parameters")


@plot.command("map")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--x", required=True, metavar="NAME", help="The swept setting along x.")
@click.option("--y", metavar="NAME", help="The swept setting along y; without it a line is drawn.")
@click.option("--value", required=True, metavar="COLUMN", help="Which column of the table, such as seconds.")
@click.option("--where", "conditions", multiple=True, metavar="NAME=VALUE", help="Only points with this setting.")
@click.option("--x-scale", type=click.Choice(SCALES), help="Room of the values; default: even, of a line linear.")
@click.option("--y-scale", type=click.Choice(SCALES), help="Room of the values of --y; default: even.")
@click.option("--log", is_flag=True, help="Logarithmic colours, or values of the line.")
@picture_option
@debug_option
def sweep_map(
    folder: Path,
    x: str,
    y: str | None,
    value: str,
    conditions: tuple[str, ...],
    x_scale: str | None,
    y_scale: str | None,
    log: bool,
    output: Path | None,
) -> None:
    """Draw a column of a sweep's table over two settings as a map, or over one as a line, averaged over the seeds.

    FOLDER is that of nnsim sweep, which may still be running. The columns are those of its sweep.csv: of an observable
    NAME there are NAME_first and NAME_last, its mean over the walkers in the first and in the last frame. Errors are
    standard errors over the seeds, or with a single seed over its walkers.

    \b
    Examples:
      nnsim plot map input-sweep --x width --y depth --value ln_loss_train_last -o map.png
      nnsim plot map input-sweep --x width --value seconds --where depth=2 --x-scale log --log
    """
    from nnsim import analysis, plotting

    table = analysis.read_sweep(folder).where(conditions_of(conditions))
    grid = table.mean_over_seeds(x, y, value)
    note = ", ".join(conditions) or None
    drawn = plotting.plot_sweep(grid, x_scale=x_scale, y_scale=y_scale, log=log, note=note)
    save_picture(drawn, output, folder.absolute(), "map")


def _draw_slices(
    landscape: EntropyLandscape, output: Path | None, trajectory: Path, along: str | None, note: str | None
) -> None:
    """Draw a landscape of three CVs."""
    from nnsim import plotting

    drawn = plotting.plot_slices(landscape, along=-1 if along is None else along, note=note)
    save_picture(drawn, output, trajectory, "landscape")


def _default_names(trajectory: Trajectory) -> tuple[str, ...]:
    """The CVs of the first bias that has some, or else the first observable that was asked for, or that says much."""
    for name in trajectory.bias_names:
        cvs = [cv for cv in trajectory.bias(name).attrs.get("cvs") or () if cv in trajectory]
        if cvs:
            return tuple(cvs[:2])
    asked = trajectory.header.get("recording", {}).get("observables", {})
    for name in (*asked, "kinetic_temperature", "potential_energy", *trajectory.observables):
        if name in trajectory and len(trajectory[name].shape) == 2:
            return (name,)
    raise InputError(f"{trajectory.path} has no frame of an observable; run longer than the interval of the record")


for command in plot.commands.values():
    style_option(command)
    overwrite_option(command)
