"""`nnsim plot`: pictures of a trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.options import between_option, bias_option, debug_option, picture_option, trajectory_argument
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.analysis.convergence import Diagnosis
    from nnsim.analysis.landscape import Curve, EntropyLandscape
    from nnsim.trajectory import Trajectory


@click.group()
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
@bias_option
@click.option("--marginal", metavar="CV", help="Integrate all other CVs out and draw S along this one.")
@click.option("--observable", help="Draw the equilibrium mean of this recorded observable instead of the second CV's.")
@click.option(
    "--width", default=0.5, show_default=True, help="Width of the bins of that mean, in units of the first CV."
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
    marginal: str | None,
    observable: str | None,
    width: float,
    training: tuple[Path, ...],
    equilibrium: bool,
    between: tuple[float, float] | None,
    output: Path | None,
) -> None:
    """Draw the entropy landscape S, with the equilibrium value of the second CV for each value of the first.

    Several trajectories are independent runs: their landscapes are averaged. With --training the mean over classical
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
    from nnsim.trajectory import Trajectory

    runs = [Trajectory(path) for path in trajectories]
    found = load_landscape(runs, bias)
    note = convergence_note([analysis.diagnose(run, between=between, bias=bias) for run in runs])
    curve, value, label = None, None, "equilibrium"
    if marginal is not None:
        found = found.marginal(marginal)
    if len(found.axes) == 2:
        value, _ = analysis.natural_value(found.names[1])
        if equilibrium and observable is None:
            curve = found.equilibrium(0, 1, value=value)
        elif equilibrium and observable is not None:
            means = [analysis.equilibrium(run, found.names[0], observable, width=width, bias=bias) for run in runs]
            curve, label = analysis.mean_curve(means), f"equilibrium {plotting.readable(observable)}"
    trained = [Trajectory(path) for path in training]
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
    _save(drawn, output, trajectories[0], "landscape")


def load_landscape(runs: list[Trajectory], bias: str | None = None) -> EntropyLandscape:
    """The landscape of one run, or the average of several."""
    from nnsim.analysis.landscape import EntropyLandscape

    single = [EntropyLandscape.from_trajectory(run, bias) for run in runs]
    return single[0] if len(single) == 1 else EntropyLandscape.average(single)


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
        of = of.removeprefix("smoothed_")
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


def convergence_note(diagnoses: list[Diagnosis]) -> str | None:
    """A line that says that runs have not converged, with the numbers of the worst; None if all have."""
    doubtful = [diagnosis for diagnosis in diagnoses if diagnosis.problems()]
    if not doubtful:
        return None
    return f"not converged: {min(doubtful, key=lambda diagnosis: diagnosis.round_trips)}"


@plot.command()
@trajectory_argument
@click.option("--observable", "names", multiple=True, help="What to draw; several times for several panels.")
@picture_option
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
@picture_option
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
@picture_option
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
