"""`nnsim analyze`: numbers from a trajectory."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.options import (
    between_option,
    bias_option,
    debug_option,
    open_runs,
    table_option,
    trajectory_argument,
)
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.analysis import Diagnosis, EquilibriumTable


@click.group()
@debug_option
def analyze() -> None:
    """Compute numbers from a trajectory.

    \b
    Examples:
      nnsim analyze equilibrium run.zarr --given ln_loss_train --of accuracy_test
      nnsim analyze advantage run.zarr --training sgd.zarr --of accuracy_test
    """


@analyze.command()
@trajectory_argument
@click.option("--given", help="The CV of the bias at whose values to average; by default its first.")
@click.option("--of", required=True, help="The recorded observable to average, such as accuracy_test.")
@click.option("--width", default=0.5, show_default=True, help="Width of the bins, in units of the CV.")
@click.option("--since", default=0.5, show_default=True, help="Fraction of the run to leave out at its beginning.")
@bias_option
@between_option
@table_option
@debug_option
def equilibrium(
    trajectory: Path,
    given: str | None,
    of: str,
    width: float,
    since: float,
    bias: str | None,
    between: tuple[float, float] | None,
    output: Path | None,
) -> None:
    """Equilibrium mean of an observable at given values of a CV of a Wang-Landau or Boltzmann bias.

    Frames of a Wang-Landau run are weighted with exp(V / kT) of the final bias V. The standard error is the spread over
    groups of walkers (of fewer than 8 walkers, over pieces of their record). What tells whether a Wang-Landau run has
    converged is printed below.

    \b
    Example:
      nnsim analyze equilibrium spiral_wlmd.zarr --of accuracy_test --between -2 0 -o equilibrium.csv
    """
    from nnsim import analysis
    from nnsim.trajectory import Trajectory

    opened = Trajectory(trajectory)
    settings = analysis.boltzmann_settings(opened)
    annealed = settings is not None and bias in (None, settings["name"])
    if annealed and between is not None:
        raise InputError("--between is for round trips, which a Boltzmann run does not make; leave it out")
    state = None if annealed else analysis.diagnose(opened, between=between, bias=bias)
    given = given or analysis.biased_quantity(opened, bias)
    table = analysis.equilibrium(opened, given, of, width=width, since=since, bias=bias)
    if output is not None:
        _write_csv(table.rows(), output)
    _print_table(table)
    if state:
        _print_diagnosis(state)


@analyze.command()
@trajectory_argument
@click.option("--of", required=True, help="The recorded observable to average, such as accuracy_test.")
@click.option("--given", default="ln_loss_train", show_default=True, help="Another one, averaged beside it.")
@click.option("--since", default=0.5, show_default=True, help="Fraction of the run to leave out at its beginning.")
@table_option
@debug_option
def boltzmann(trajectory: Path, of: str, given: str, since: float, output: Path | None) -> None:
    """Mean of an observable at each beta of a Boltzmann run, with the standard error from the spread over chains.

    \b
    Example:
      nnsim analyze boltzmann spiral_boltzmann.zarr --of accuracy_test
    """
    from nnsim import analysis
    from nnsim.trajectory import Trajectory

    rows = analysis.boltzmann_averages(Trajectory(trajectory), of, given=given, since=since)
    if output is not None:
        _write_csv(rows, output)
    _print_boltzmann(rows, given, of)


@analyze.command()
@click.argument("trajectories", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--training",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Trajectory whose walkers are training runs; may be given several times.",
)
@click.option("--given", help="The CV of the bias at whose values to compare; by default its first.")
@click.option("--of", required=True, help="The observable to compare, recorded in both, such as accuracy_test.")
@click.option("--width", default=0.5, show_default=True, help="Width of the bins of the equilibrium mean.")
@click.option(
    "--most-probable", is_flag=True, help="Take the most probable value of a CV of the bias, as for a test loss."
)
@click.option(
    "--centred", is_flag=True, help="Put the centres of the bins, not their edges, at multiples of the width."
)
@click.option("--since", default=0.5, show_default=True, help="Fraction of the equilibrium run to leave out.")
@bias_option
@table_option
@debug_option
def advantage(
    trajectories: tuple[Path, ...],
    training: tuple[Path, ...],
    given: str | None,
    of: str,
    width: float,
    most_probable: bool,
    centred: bool,
    since: float,
    bias: str | None,
    output: Path | None,
) -> None:
    """Entropy advantage: equilibrium mean minus mean over training runs at the same value of a CV.

    The equilibrium mean is that of the bin around each level; of several equilibrium trajectories their mean is taken,
    and their spread is its error. For regression, --most-probable compares the test loss at which S is largest.
    A training run counts with its value when it first reaches the level; the last column says how many did.

    \b
    Example:
      nnsim analyze advantage spiral_wlmd.zarr --training spiral_training.zarr --of accuracy_test -o advantage.csv
    """
    from nnsim import analysis

    runs = open_runs(trajectories)
    given = given or analysis.biased_quantity(runs[0], bias)
    means: Any
    if most_probable:
        single = [analysis.EntropyLandscape.from_trajectory(run, bias) for run in runs]
        if of not in single[0].names:
            listed = ", ".join(single[0].names)
            raise InputError(
                f"--most-probable needs a CV of the bias, {listed}, not {of!r}; change --of or leave it out"
            )
        landscape = single[0] if len(single) == 1 else analysis.EntropyLandscape.average(single)
        means = curve = landscape.most_probable(given, of)
    else:
        options: dict[str, Any] = {"width": width, "since": since, "centred": centred, "bias": bias}
        means = [analysis.equilibrium(run, given, of, **options) for run in runs]
        curve = analysis.mean_curve(means)
    trained = analysis.training_curve(open_runs(training), given, of, levels=curve.x)
    rows = analysis.entropy_advantage(means, trained)
    if output is not None:
        _write_csv(rows, output)
    _print_advantage(rows, given, of)


def _print_advantage(rows: list[dict[str, Any]], given: str, of: str) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"{of}: equilibrium minus training at the same {given}", title_justify="left")
    for name in (given, "equilibrium", "training", "advantage", "training runs"):
        shown.add_column(name, justify="right")
    for row in rows:
        level, *numbers, runs, total = row.values()
        means = [f"{mean:.3f} ± {error:.3f}" for mean, error in zip(numbers[::2], numbers[1::2], strict=True)]
        shown.add_row(f"{level:g}", *means, f"{runs} of {total}")
    Console().print(shown)


def _print_boltzmann(rows: list[dict[str, float | int]], given: str, of: str) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"{of} and {given} at each inverse loss temperature", title_justify="left")
    for name in ("beta", given, of, "chains"):
        shown.add_column(name, justify="right")
    for row in rows:
        beta, x, x_error, y, y_error, chains = row.values()
        shown.add_row(f"{beta:g}", f"{x:.3f} ± {x_error:.3f}", f"{y:.3f} ± {y_error:.3f}", str(chains))
    Console().print(shown)


def _print_table(table: EquilibriumTable) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"equilibrium {table.of} at given {table.given}", title_justify="left")
    for name in (table.given, f"mean {table.of}", "standard error", "frames"):
        shown.add_column(name, justify="right")
    for row in table.rows():
        low, high, mean, error, frames = row.values()
        shown.add_row(f"{low:g} to {high:g}", f"{mean:.3f}", f"{error:.3f}", str(frames))
    Console().print(shown)


def _print_diagnosis(state: Diagnosis) -> None:
    click.echo(f"increment:           {state.increment:.3g} kT at the end, at most {state.largest_increment:.3g} kT")
    trips = f"{state.round_trips} by {state.walkers} walkers between {state.cv} = {state.low:g} and {state.high:g}"
    click.echo(f"round trips:         {trips}")
    if not math.isnan(state.flatness.whole):
        late = "" if math.isnan(state.flatness.late) else f", {state.flatness.late:.2g} in the later part"
        click.echo(f"flatness:            {state.flatness.whole:.2g} of the whole run{late} (least visited bin / mean)")
    if not math.isnan(state.late_change.rms):
        most = f"at most {state.late_change.largest:.2g} nats"
        click.echo(f"change of S:         {state.late_change.rms:.2g} nats rms in the later part, {most}")
    if state.knows_temperature:
        click.echo(f"kinetic temperature: {state.kinetic_temperature:.4g} over the last tenth (kT = {state.kT:g})")
    click.echo(f"outside the grid:    {100 * state.outside:.2g} % of the steps")
    click.echo(_verdict(state))


def _verdict(state: Diagnosis) -> str:
    if problems := state.problems():
        return f"NOT CONVERGED: {'; '.join(problems)}"
    unknown = "" if state.knows_temperature else " (without a look at the kinetic temperature, which is not known)"
    return f"no sign that the run has not converged{unknown}"


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
