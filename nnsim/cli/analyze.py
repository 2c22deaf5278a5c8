"""`nnsim analyze`: numbers from a trajectory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnsim.cli.analyze_scaling import scaling
from nnsim.cli.analyze_tempering import tempering
from nnsim.cli.analyze_two_sided import two_sided
from nnsim.cli.options import (
    OutputPath,
    between_option,
    bias_option,
    debug_option,
    may_overwrite,
    open_runs,
    overwrite_option,
    save_table,
    table_option,
    trajectory_argument,
)
from nnsim.cli.terminal import print_table, say
from nnsim.errors import InputError

POOR_OVERLAP = 0.03  # of neighbouring states, below which the table says so: Klimovich et al. 2015

if TYPE_CHECKING:
    from nnsim.analysis import Diagnosis, EquilibriumTable, Profile


@click.group()
@debug_option
def analyze() -> None:
    """Compute numbers from a trajectory.

    \b
    Examples:
      nnsim analyze equilibrium run.zarr --given ln_loss_train --of accuracy_test
      nnsim analyze advantage run.zarr --training sgd.zarr --of accuracy_test
      nnsim analyze reweight run.zarr --along accuracy_test --bins values
      nnsim analyze tempering run.zarr
      nnsim analyze two-sided trained.zarr random.zarr
      nnsim analyze scaling input-sweep --x width --value ntk_trace_train_first
    """


for command in (scaling, tempering, two_sided):
    analyze.add_command(command)


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
    """Equilibrium mean of an observable at given values of a CV of a bias.

    All biases of the run are taken off, walls too: frames of a Wang-Landau run are weighted with exp(V / kT) of the
    final bias V, others as in `nnsim analyze reweight`. The mean is that at the centre of each bin, by a parabola
    through its frames. The standard error is the spread over groups of walkers (of fewer than 8 independent walkers,
    over pieces of their record). What tells whether the run has converged is printed below.

    \b
    Example:
      nnsim analyze equilibrium spiral_wlmd.zarr --of accuracy_test --between -2 0 -o equilibrium.csv
    """
    from nnsim import analysis
    from nnsim.trajectory.reader import Trajectory

    opened = Trajectory(trajectory)
    flattened = _flattened(opened, bias)
    if not flattened and between is not None:
        kind = analysis.averaged_type(opened, bias)
        article = "an" if str(kind)[0] in "AEIOU" else "a"
        raise InputError(f"--between is for round trips, which {article} {kind} run does not make; leave it out")
    state = analysis.diagnose(opened, between=between, bias=bias) if flattened else None
    given = analysis.biased_quantity(opened, bias) if given is None else given
    table = analysis.equilibrium(opened, given, of, width=width, since=since, bias=bias)
    save_table(table.rows(), output)
    _print_table(table)
    if state:
        _print_diagnosis(state)


@analyze.command()
@trajectory_argument
@click.option("--along", multiple=True, required=True, help="A recorded observable; give the option twice for a map.")
@click.option(
    "--bins",
    multiple=True,
    default=["50"],
    show_default="50",
    help="Number of bins, or `values` for one of each value; of a map give the option twice for two numbers.",
)
@click.option(
    "--between",
    type=float,
    nargs=2,
    multiple=True,
    metavar="LOW HIGH",
    help="Range of the bins, once for each --along; all values by default.",
)
@click.option("--since", default=0.5, show_default=True, help="Fraction of the run to leave out at its beginning.")
@click.option("--blocks", default=8, show_default=True, help="Number of blocks, left out one by one for the errors.")
@click.option("--beta", type=float, help="Weight with exp(-beta L) too: the ensemble at loss temperature 1 / beta.")
@click.option("--kT", "kT", type=float, help="Another temperature than the run's, for a system with an energy U.")
@click.option("--final-bias", is_flag=True, help="For metadynamics and OPES, the final bias, not that at each time.")
@table_option
@click.option("--picture", type=OutputPath(), help="The picture to write, .png, .pdf or .svg.")
@debug_option
def reweight(
    trajectory: Path,
    along: tuple[str, ...],
    bins: tuple[str, ...],
    between: tuple[tuple[float, float], ...],
    since: float,
    blocks: int,
    beta: float | None,
    kT: float | None,
    final_bias: bool,
    output: Path | None,
    picture: Path | None,
) -> None:
    """Free energy, entropy and distribution along any recorded observable, with all biases taken off.

    The frames are weighted by the final Wang-Landau bias, by V(s, t) - c(t) of metadynamics or V(s, t) of OPES (or the
    final V), or, where walkers are umbrella windows or have a beta each (also replica exchange), by MBAR. Errors are
    those of the jackknife over groups of walkers or pieces of the record. S and F are those at the centre of each bin,
    p is its mean density.
    Writes the table as CSV and a picture; without -o and --picture both, beside the trajectory, as
    <trajectory>_<along>.csv and .png.

    \b
    Examples:
      nnsim analyze reweight windows.zarr --along parameter_0 --between -2 2
      nnsim analyze reweight replica.zarr --along ln_loss_train -o S.csv --picture S.png
      nnsim analyze reweight replica.zarr --along accuracy_test --bins values --beta 100
      nnsim analyze reweight run.zarr --along x --along y --between -2 2 --between 0 1 --bins 40 --bins 20
    """
    from nnsim import analysis, plotting
    from nnsim.trajectory.reader import Trajectory

    if between and len(between) != len(along):
        raise InputError(
            f"--between is given {len(between)} times for {len(along)} observables; give a LOW HIGH for each --along"
        )
    found = analysis.profile(
        Trajectory(trajectory), along, bins=_bins(bins, len(along)), between=between or None,
        since=since, blocks=blocks, beta=beta, kT=kT, final_bias=final_bias,
    )  # fmt: skip
    if output is None and picture is None:
        stem = trajectory.parent / f"{trajectory.resolve().stem}_{'_'.join(along)}"
        output, picture = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.png")
    _print_profile(found)
    save_table(found.rows(), output)
    if output is not None:
        say(f"wrote {output}")
    if picture is not None:
        plotting.save(plotting.plot_profile(found), picture, overwrite=may_overwrite())
        say(f"wrote {picture}")


def _bins(given: tuple[str, ...], axes: int) -> str | list[int]:
    """Number of bins along each observable, or `values`."""
    for one in given:
        if not one.isdecimal() and one != "values":
            raise InputError(f"--bins {one}: must be a whole number of at least 1, or `values`; change it")
    if len(given) not in (1, axes):
        raise InputError(
            f"--bins is given {len(given)} times for {axes} observables; give it once, or for each --along"
        )
    if "values" in given:
        if set(given) != {"values"}:
            raise InputError("--bins: `values` of one observable go with `values` of the other only; give it once")
        return "values"
    return [int(one) for one in given] * (axes // len(given))


def _print_profile(found: Profile) -> None:
    weights, rows = found.weights, []
    for row in found.rows():
        places = [f"{row[name]:.5g}" for name in found.along]
        kind, density = ("entropy" if found.flat else "free_energy"), next(name for name in row if "probab" in name)
        numbers = [_with_error(row[name], row[f"{name}_error"], 4) for name in (kind, density)]
        rows.append([*places, *numbers, str(row["frames"]), f"{row['effective_frames']:.4g}"])
    title, symbol = ("entropy", "S") if found.flat else ("free energy", "F")
    names = (*found.along, symbol, "p", "frames", "effective")
    print_table(f"{title} along {' and '.join(found.along)}", names, rows)
    if weights.states:
        _print_states(found)
        neighbours = f"of neighbours about {weights.neighbour_overlap:.2g}"
        say(f"overlap of the states: {weights.overlap:.2g} (0 none, 1 all alike), {neighbours}")
        if weights.neighbour_overlap < POOR_OVERLAP:
            say("POOR OVERLAP: some free energies are hardly known; put states between them, or run longer")
    for problem in weights.doubts.problems:
        say(f"NOT CONVERGED: {problem}")
    for name, mean, error in zip(found.along, found.means, found.mean_errors, strict=True):
        say(f"mean {name}: {_with_error(mean, error, 5)}")
    total = weights.log_weights.size
    thinned = f" (every {weights.stride}th of those recorded)" if weights.stride > 1 else ""
    say(f"effective sample size: {found.total_effective:.4g} of {total} frames{thinned}")


def _with_error(value: float, error: float, digits: int) -> str:
    """A number and its error, which is not known where only one block has frames."""
    return f"{value:.{digits}g}" + ("" if math.isnan(error) else f" ± {error:.2g}")


def _mean(value: float, error: float) -> str:
    """A mean to three digits with its error, where that is known."""
    return f"{value:.3f} ± " + ("?" if math.isnan(error) else f"{error:.3f}")


def _print_states(found: Profile) -> None:
    rows, shown = found.weights.rows(), []
    labels = [name for name in rows[0] if name not in ("f", "f_error", "frames")]
    for row in rows:
        values = [f"{row[name]:.5g}" if isinstance(row[name], float) else str(row[name]) for name in labels]
        shown.append([*values, _with_error(row["f"], row["f_error"], 5), str(row["frames"])])
    print_table("states combined by MBAR", (*labels, "f (kT)", "frames"), shown)


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
    from nnsim.trajectory.reader import Trajectory

    rows = analysis.boltzmann_averages(Trajectory(trajectory), of, given=given, since=since)
    save_table(rows, output)
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

    The equilibrium mean is that at each level, from the frames of the bin around it; of several equilibrium
    trajectories their mean is taken, and their spread is its error. For regression, --most-probable compares the test
    loss at which S is largest.
    A training run counts with its value when it first reaches the level; the last column says how many did.

    \b
    Example:
      nnsim analyze advantage spiral_wlmd.zarr --training spiral_training.zarr --of accuracy_test -o advantage.csv
    """
    from nnsim import analysis

    runs = open_runs(trajectories)
    given = analysis.biased_quantity(runs[0], bias) if given is None else given
    means: Any
    tables: list[EquilibriumTable] = []
    if most_probable:
        landscape = analysis.EntropyLandscape.from_runs(runs, bias)
        if of not in landscape.names:
            listed = ", ".join(landscape.names)
            raise InputError(
                f"--most-probable needs a CV of the bias, {listed}, not {of!r}; change --of or leave it out"
            )
        means = curve = landscape.most_probable(given, of)
    else:
        options: dict[str, Any] = {"width": width, "since": since, "centred": centred, "bias": bias}
        means = tables = [analysis.equilibrium(run, given, of, **options) for run in runs]
        curve = analysis.mean_curve(means)
    trained = analysis.training_curve(open_runs(training), given, of, levels=curve.x)
    rows = analysis.entropy_advantage(means, trained)
    save_table(rows, output)
    _print_advantage(rows, given, of)
    for run in runs:
        if _flattened(run, bias) and analysis.has_record(run, bias):
            say(f"{run.path}: {_verdict(analysis.diagnose(run, bias=bias))}")
    for run, table in zip(runs, tables, strict=False):
        for problem in table.doubts.problems:
            say(f"{run.path}: NOT CONVERGED: {problem}")


def _flattened(run: Any, bias: str | None) -> bool:
    """Whether averages are made from a bias that makes the histogram flat, or from none."""
    from nnsim.analysis.averages.equilibrium import averaged_bias

    averaged = averaged_bias(run, bias)
    return averaged is None or averaged["formula"] == "flat_histogram"


def _print_advantage(rows: list[dict[str, Any]], given: str, of: str) -> None:
    shown = []
    for row in rows:
        level, *numbers, runs, total = row.values()
        means = [_mean(mean, error) for mean, error in zip(numbers[::2], numbers[1::2], strict=True)]
        shown.append([f"{level:g}", *means, f"{runs} of {total}"])
    names = (given, "equilibrium", "training", "advantage", "training runs")
    print_table(f"{of}: equilibrium minus training at the same {given}", names, shown)


def _print_boltzmann(rows: list[dict[str, float | int]], given: str, of: str) -> None:
    shown = []
    for row in rows:
        beta, x, x_error, y, y_error, chains = row.values()
        shown.append([f"{beta:g}", _mean(x, x_error), _mean(y, y_error), str(chains)])
    print_table(f"{of} and {given} at each inverse loss temperature", ("beta", given, of, "chains"), shown)


def _print_table(table: EquilibriumTable) -> None:
    shown = []
    for row in table.rows():
        at, mean, error, frames, low, high = row.values()
        told = "not known" if math.isnan(error) else f"{error:.3f}"
        shown.append([f"{at:.4g}", f"{mean:.3f}", told, str(frames), f"{low:g} to {high:g}"])
    names = (table.given, f"mean {table.of}", "standard error", "frames", "from bin")
    print_table(f"equilibrium {table.of} at given {table.given}", names, shown)
    for problem in table.doubts.problems:
        say(f"NOT CONVERGED: {problem}")


def _print_diagnosis(state: Diagnosis) -> None:
    say(f"increment:           {state.increment:.3g} kT at the end, at most {state.largest_increment:.3g} kT")
    trips = f"{state.round_trips} by {state.walkers} walkers between {state.cv} = {state.low:g} and {state.high:g}"
    say(f"round trips:         {trips}")
    if not math.isnan(state.flatness.whole):
        late = "" if math.isnan(state.flatness.late) else f", {state.flatness.late:.2g} in the later part"
        say(f"flatness:            {state.flatness.whole:.2g} of the whole run{late} (least visited bin / mean)")
    if not math.isnan(state.late_change.rms):
        most = f"at most {state.late_change.largest:.2g} nats"
        say(f"change of S:         {state.late_change.rms:.2g} nats rms in the later part, {most}")
    if state.knows_temperature:
        say(f"kinetic temperature: {state.kinetic_temperature:.4g} over the last tenth (kT = {state.kT:g})")
    say(f"outside the grid:    {100 * state.outside:.2g} % of the steps")
    say(_verdict(state))


def _verdict(state: Diagnosis) -> str:
    if problems := state.problems():
        return f"NOT CONVERGED: {'; '.join(problems)}"
    unknown = "" if state.knows_temperature else " (without a look at the kinetic temperature, which is not known)"
    return f"no sign that the run has not converged{unknown}"


for command in analyze.commands.values():
    overwrite_option(command)
