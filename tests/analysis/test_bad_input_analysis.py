"""Bad input of analyses, and of parts of the user's own, gives one line that says the value, the rule and the remedy.

Simulations, scripts and files are in test_bad_input.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import error_of
from in_memory import Record
from pictured_runs import make_run

from nnsim import (
    Box,
    InputError,
    Lattice,
    Simulation,
    Trajectories,
    Trajectory,
    TrajectoryError,
    cv,
    per_tensor_limits,
    report,
)
from nnsim import analysis as an
from nnsim.analysis import Axis, Curve, EntropyLandscape, SweepTable
from nnsim.analysis.checks import require_fraction
from nnsim.bias import Umbrella, Wall, WangLandau
from nnsim.cv import ntk
from nnsim.errors import require_flag, require_number, require_pair
from nnsim.export import atom_order, export, write_csv
from nnsim.grid.grid import Grid
from nnsim.integrators import GradientDescent, Langevin
from nnsim.plotting import plot_histogram, plot_landscape, plot_layers, plot_parameters, plot_slices, save
from nnsim.protocols import Integrator
from nnsim.random.streams import Purpose, RandomStreams
from nnsim.schedules import FlatnessHalving
from nnsim.state import State
from nnsim.systems import AnalyticSystem, CrossEntropy, Harmonic, NeuralNetwork
from nnsim.systems.modules import mlp, resnet10

NAN, INF = math.nan, math.inf
Case = tuple[str, Callable[..., Any], str]


@dataclass
class Runs:
    """What the cases are made of: two Wang-Landau runs and a training run, and what follows from them."""

    wl: Trajectory
    wl2: Trajectory
    line: EntropyLandscape
    plane: EntropyLandscape
    plane2: EntropyLandscape
    table: Any
    training: Any
    curve: Any

    def equilibrium(self, **settings: Any) -> Any:
        return an.equilibrium(self.wl, "ln_loss_train", "weight_norm", **settings)

    def profile(self, along: Any = "ln_loss_train", **settings: Any) -> Any:
        return an.profile(self.wl, along, **{"bins": 4, **settings})

    def final(self, curves: Any, **settings: Any) -> Any:
        return an.final_advantage(curves, self.training, **settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    wl, wl2 = make_run(folder / "a.zarr"), make_run(folder / "b.zarr")
    falling = np.linspace(0.0, -2.0, 50)[:, None] + np.zeros((50, 3))
    training = Record({}, ln_loss_train=falling, accuracy_test=1 + falling / 4)
    plane, plane2 = (EntropyLandscape.from_trajectory(run) for run in (wl, wl2))
    table = an.equilibrium(wl, "ln_loss_train", "weight_norm")
    curve = an.training_curve(training, levels=[-1.0])  # type: ignore[arg-type]
    return Runs(wl, wl2, plane.marginal(0), plane, plane2, table, training, curve)


def refused(make: Callable[[], Any], words: str) -> None:
    """The error must be one line with these words, parted by ` ... ` where others stand between them."""
    with pytest.raises((InputError, TrajectoryError)) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    place = 0
    for part in words.split(" ... "):
        found = message.find(part, place)
        assert found >= 0, message
        place = found + len(part)


# ----------------------------------------------------------------------------------------- numbers, flags and fractions

NO_NUMBERS = [NAN, INF, -INF, "0.5", b"1", None, True, np.True_, [1.0], {}, np.array([1.0, 2.0]), 1j]
NUMBERS = [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), torch.tensor(2.0)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_no_number(value: Any) -> None:
    refused(lambda: require_number("Part", "size", value), "Part: size = ... must be a finite number; ")
    refused(lambda: require_pair("Part", "between", (0.0, value)), "Part: between = ... must be a finite number; ")


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers(value: Any) -> None:
    assert require_number("Part", "size", value) == 2
    assert require_pair("Part", "between", [0, value]) == (0, 2)


@pytest.mark.parametrize("value", ["no", "False", 0, 1, None, [], torch.tensor(True)], ids=repr)
def test_no_flag(value: Any) -> None:
    refused(lambda: require_flag("Part", "signs", value), "Part: signs = ... must be True or False; change signs")


def test_flags_and_fractions() -> None:
    assert require_flag("Part", "signs", np.True_) is True
    assert require_fraction("Part", np.float32(0.25)) == 0.25
    assert require_fraction("Part", 0) == 0


FRACTIONS = [1.0, 1, 2, -0.1, NAN, INF, "0.5", None, True, [0.5], np.array([0.1, 0.2])]


@pytest.mark.parametrize("since", FRACTIONS, ids=repr)
def test_fractions(runs: Runs, since: Any) -> None:
    rule = "since = ... must be at least 0 and below 1; change since"
    refused(lambda: runs.equilibrium(since=since), f"equilibrium: {rule}")
    refused(lambda: an.frame_weights(runs.wl, since=since), f"frame_weights: {rule}")
    refused(lambda: an.boltzmann_averages(runs.wl, "weight_norm", since=since), f"boltzmann_averages: {rule}")


# --------------------------------------------------------------------------------------------------------- trajectories

OF_A_TRAJECTORY: dict[str, Callable[[Any], Any]] = {
    "equilibrium": lambda run: an.equilibrium(run, "ln_loss_train", "weight_norm"),
    "EntropyLandscape.from_trajectory": EntropyLandscape.from_trajectory,
    "frame_weights": an.frame_weights,
    "boltzmann_averages": lambda run: an.boltzmann_averages(run, "weight_norm"),
    "boltzmann_settings": an.boltzmann_settings,
    "biased_quantity": an.biased_quantity,
    "averaged_type": an.averaged_type,
    "diagnose": an.diagnose,
    "histogram_flatness": an.histogram_flatness,
    "has_record": an.has_record,
    "convergence_records": lambda run: an.convergence_records([run]),
    "training_curve": lambda run: an.training_curve([run]),
    "evolution": lambda run: an.evolution([run], "weight_norm"),
    "steps_per_epoch": an.steps_per_epoch,
}


@pytest.mark.parametrize("owner", OF_A_TRAJECTORY)
def test_no_trajectory(owner: str) -> None:
    rule = "must be a trajectory or its path; give one that nnsim run wrote"
    for wrong in (None, 3, np.zeros((3, 2)), Trajectory):
        refused(lambda: OF_A_TRAJECTORY[owner](wrong), f"{owner}: trajectory = ... {rule}")  # noqa: B023
    refused(lambda: OF_A_TRAJECTORY[owner]("nope.zarr"), "nope.zarr does not exist; check the path")


def test_a_path_is_a_trajectory(runs: Runs) -> None:
    path = str(runs.wl.path)
    assert an.diagnose(path).walkers == 3
    assert an.averaged_type(path) == "WangLandau"
    assert np.array_equal(an.equilibrium(path, "ln_loss_train", "weight_norm").mean, runs.table.mean, equal_nan=True)
    assert len(an.convergence_records([path, runs.wl2])) == len(an.convergence_records(runs.wl)) + 1 == 2


SEVERAL = {"convergence_records": an.convergence_records, "training_curve": an.training_curve}


@pytest.mark.parametrize("owner", SEVERAL)
def test_several_trajectories(runs: Runs, owner: str) -> None:
    refused(lambda: SEVERAL[owner]([]), f"{owner}: no trajectory; give at least one")
    refused(lambda: SEVERAL[owner]([runs.wl, runs.wl]), f"{owner}: ... are the same run; give each run once")


def test_runs_of_different_systems(runs: Runs) -> None:
    small = Record({}, ln_loss_train=np.zeros((9, 2)), accuracy_test=np.zeros((9, 2)))
    large = Record({}, ln_loss_train=np.zeros((9, 2)), accuracy_test=np.zeros((9, 2)))
    small.header["parameters"], large.header["parameters"] = {"0.weight": [2, 2]}, {"0.weight": [3, 2]}
    words = "runs of different networks, of 4 and 6 parameters; take those of one"
    refused(lambda: an.training_curve([small, large]), f"training_curve: ... {words}")  # type: ignore[list-item]
    refused(lambda: an.evolution([small, large], "accuracy_test"), f"evolution: ... {words}")  # type: ignore[list-item]
    other = EntropyLandscape(runs.plane2.entropy, runs.plane2.visited, runs.plane2.axes, size=99)
    words = "systems of 16 and 99 parameters have different entropies; average only runs of one system"
    refused(lambda: EntropyLandscape.average([runs.plane, other]), words)


# ----------------------------------------------------------------------------------------------------------- landscapes

AXIS = Axis("x", np.arange(4) + 0.5, np.arange(5.0))
GRID = {"lower": [0.0], "upper": [1.0], "bins": [4], "periodic": [False], "kind": "spline"}


def memory(**settings: Any) -> EntropyLandscape:
    parts: dict[str, Any] = {"entropy": np.zeros(4), "visited": np.ones(4), "axes": (AXIS,), **settings}
    return EntropyLandscape(**parts)


def coefficients(**settings: Any) -> EntropyLandscape:
    parts: dict[str, Any] = {"coefficients": np.zeros(4), "visits": np.ones(4), "kT": 1.0, "grid": GRID, "names": ["x"]}
    return EntropyLandscape.from_coefficients(**{**parts, "flat": True, **settings})


def raising(*arguments: Any) -> Any:
    return 1 / 0


LANDSCAPES: list[Case] = [
    ("axis short", lambda r: Axis("x", np.arange(4.0), np.arange(4.0)), "4 centers and 4 edges; give one edge more"),
    (
        "axis falls",
        lambda r: Axis("x", AXIS.centers, AXIS.edges[::-1]),
        "from 4 to 0 must rise by equal steps; change edges",
    ),
    (
        "axis uneven",
        lambda r: Axis("x", [0.5, 3.0], [0.0, 1.0, 5.0]),
        "from 0 to 5 must rise by equal steps; change edges",
    ),
    ("axis nan", lambda r: Axis("x", AXIS.centers, np.full(5, NAN)), "must rise by equal steps; change edges"),
    ("axis text", lambda r: Axis("x", ["a"], [0.0, 1.0]), "centers = ['a'] must be real numbers; give an array"),
    ("axis centres", lambda r: Axis("x", [5.0], [0.0, 1.0]), "centers must lie in their bins, one in each; change"),
    (
        "curve",
        lambda r: Curve(np.zeros(2), np.zeros(3)),
        "Curve: x, y and error end with [(2,), (3,)] points; give one",
    ),
    ("entropy text", lambda r: memory(entropy=["a"] * 4), "entropy = ['a', 'a', 'a', 'a'] must be real numbers; give"),
    (
        "axes text",
        lambda r: memory(axes="x"),
        "axes = 'x' must be one or more Axis; give what nnsim.analysis.Axis(...)",
    ),
    ("axes None", lambda r: memory(axes=None), "axes = None must be one or more Axis; give what"),
    ("axes alike", lambda r: memory(axes=(AXIS, AXIS)), "axes of x, x; give one or more different CVs"),
    ("no axes", lambda r: memory(axes=()), "axes of nothing; give one or more different CVs"),
    ("error shape", lambda r: memory(error=np.zeros(3)), "error (3,) and axes (4,) differ; make them equal"),
    ("at nan", lambda r: memory().at(x=NAN), "EntropyLandscape: x = nan must be a finite number; change x"),
    ("at text", lambda r: memory().at(x="1"), "EntropyLandscape: x = '1' must be a finite number; give a plain number"),
    ("at None", lambda r: memory().at(x=None), "x = None must be a finite number; give a plain number"),
    ("at list", lambda r: memory().at(x=[1.0]), "x = [1.0] must be a finite number; give a plain number"),
    ("at outside", lambda r: memory().at(x=9), "x = 9 is outside the grid, [0, 4]; give one inside"),
    ("at missing", lambda r: memory().at(), "EntropyLandscape.at: a value of x is missing; give one for each axis"),
    ("at unknown", lambda r: memory().at(x=1, y=2), "no axis 'y'; choose one of x"),
    ("slice text", lambda r: r.plane.slice(ln_loss_train="a"), "ln_loss_train = 'a' must be a finite number; give a"),
    ("slice range", lambda r: r.plane.slice(ln_loss_train=slice(0, 1)), "= slice(0, 1, None) must be a finite number;"),
    ("slice outside", lambda r: r.plane.slice(ln_loss_train=-9), "= -9 is outside the grid, [0, 1]; give one inside"),
    ("slice all", lambda r: r.line.slice(ln_loss_train=0.5), "every axis has a value and none is left; use at()"),
    ("marginal none", lambda r: r.plane.marginal(), "() must be different axes, at least one; choose among ln_loss"),
    ("marginal twice", lambda r: r.plane.marginal(0, 0), "(0, 0) must be different axes, at least one; choose among"),
    ("axis None", lambda r: r.plane.marginal(None), "no axis None; choose one of ln_loss_train, accuracy_test"),
    ("axis list", lambda r: r.plane.axis_index([0, 1]), "no axis [0, 1]; choose one of ln_loss_train, accuracy_test"),
    ("axis float", lambda r: r.plane.axis_index(1.5), "no axis 1.5; choose one of"),
    ("axis flag", lambda r: r.plane.axis_index(True), "no axis True; choose one of"),
    ("axis beyond", lambda r: r.plane.axis_index(2), "no axis 2; choose one of"),
    ("axis same", lambda r: r.plane.equilibrium(0, 0), "(0, 0) must be different axes, at least one; choose among"),
    ("value 3", lambda r: r.plane.equilibrium(0, 1, 3), "value = 3 must be a function; give one, such as numpy.cos"),
    ("value raises", lambda r: r.plane.equilibrium(0, 1, raising), "value fails: ZeroDivisionError: ... ; repair it"),
    ("value None", lambda r: r.plane.equilibrium(0, 1, lambda x: None), "value(...) = None must be real numbers; give"),
    ("value one", lambda r: r.plane.equilibrium(0, 1, lambda x: 1.0), "value makes () of (144,) numbers; let it give"),
    ("average none", lambda r: EntropyLandscape.average([]), "0 run(s); at least 2 independent runs are needed"),
    ("average paths", lambda r: EntropyLandscape.average(["a", "b"]), "landscapes = ['a', 'b'] must be one or more"),
    ("average None", lambda r: EntropyLandscape.average(None), "landscapes = None must be one or more ... ; give what"),
    (
        "average twice",
        lambda r: EntropyLandscape.average([r.plane] * 2),
        "a.zarr twice is no independent run; give each",
    ),
    ("average line", lambda r: EntropyLandscape.average([r.plane, r.line]), "different grids ... use the same CVs and"),
    ("frame text", lambda r: EntropyLandscape.from_trajectory(r.wl, frame="last"), "frame = 'last' is not among the 5"),
    (
        "frame 1.5",
        lambda r: EntropyLandscape.from_trajectory(r.wl, frame=1.5),
        "frame = 1.5 is not among ... change frame",
    ),
    (
        "frame 99",
        lambda r: EntropyLandscape.from_trajectory(r.wl, frame=99),
        "frame = 99 is not among ... change frame",
    ),
    ("bias name", lambda r: EntropyLandscape.from_trajectory(r.wl, "nope"), "no ... bias 'nope'; it has: wl"),
    ("kT 0", lambda r: coefficients(kT=0), "EntropyLandscape: kT = 0 must be a finite number above 0; change kT"),
    ("kT -1", lambda r: coefficients(kT=-1), "EntropyLandscape: kT = -1 must be a finite number above 0; change kT"),
    ("kT text", lambda r: coefficients(kT="1"), "kT = '1' must be a finite number above 0; give a plain number"),
    ("names", lambda r: coefficients(names=["x", "y"]), "must be as many; give one for each CV"),
    ("grid empty", lambda r: coefficients(grid={}), "grid = {} must have lower, upper, bins, periodic and kind; give"),
    (
        "grid bins 0",
        lambda r: coefficients(grid={**GRID, "bins": [0]}),
        "bins = 0 must be a whole number of at least 1;",
    ),
    ("grid kind", lambda r: coefficients(grid={**GRID, "kind": "nope"}), "kind = 'nope' is not known; choose one of"),
    (
        "grid flat",
        lambda r: coefficients(grid={**GRID, "upper": [0.0]}),
        "from 0 to 0 must rise by equal steps; change edges",
    ),
    ("grid number", lambda r: coefficients(grid={**GRID, "lower": 0.0}), "must be as many; give one for each CV"),
    ("table shape", lambda r: coefficients(coefficients=[0.0]), "coefficients (1,) and axes (4,) differ; give an"),
    ("visits None", lambda r: coefficients(visits=None), "visits = None must be real numbers; give an array of them"),
    ("discrete", lambda r: coefficients(discrete=[True, False]), "must be as many; give one for each CV"),
    (
        "restraint 3",
        lambda r: coefficients(restraint=3),
        "restraint = 3 must be a function; give one, such as numpy.cos",
    ),
    ("restraint", lambda r: coefficients(restraint=raising), "restraint fails: ZeroDivisionError: ... repair it"),
    (
        "gamma",
        lambda r: coefficients(bias_factor=1),
        "bias_factor = 1 must be a finite number above 1; change bias_factor",
    ),
    (
        "means",
        lambda r: EntropyLandscape.from_means(np.zeros(3), np.ones(4), (AXIS,)),
        "means (3,) and axes (4,) differ;",
    ),
    (
        "of a wall",
        lambda r: EntropyLandscape.from_bias(Wall(cv.Loss(), upper=1.0)),
        "must be a Wang-Landau or ... take",
    ),
    (
        "of a class",
        lambda r: EntropyLandscape.from_bias(WangLandau),
        "must be a Wang-Landau or metadynamics bias; of a",
    ),
    (
        "sample n",
        lambda r: r.plane.sample(n=0, ln_loss_train=0.5),
        "n = 0 must be a whole number of at least 1; change n",
    ),
    (
        "sample runs",
        lambda r: r.plane.sample(3, ln_loss_train=0.5),
        "sample: trajectory = 3 must be a trajectory or its",
    ),
    (
        "sample width",
        lambda r: r.plane.sample(ln_loss_train=0.5, width=0),
        "width = 0 must be a finite number above 0;",
    ),
    ("sample many", lambda r: r.plane.sample(ln_loss_train=0.5, n=9999), "fewer than n = 9999; take fewer or a larger"),
    ("sample name", lambda r: r.plane.sample(nope=1), "'nope' is no CV of this landscape; choose one of"),
    ("pick", lambda r: r.plane.sample(ln_loss_train=0.5, n=1).module(7), "pick = 7 must be below the 1 picks; change"),
    ("pick text", lambda r: r.plane.sample(ln_loss_train=0.5, n=1).module("a"), "pick = 'a' must be a whole number of"),
    (
        "difference",
        lambda r: an.entropy_difference(r.wl, 0, 1),
        "landscape = Trajectory( ... must be an EntropyLandscape;",
    ),
    ("difference bin", lambda r: an.entropy_difference(r.line, 0.5, 0.51), "lie in one bin of the grid, ... move them"),
    ("difference nan", lambda r: an.entropy_difference(r.line, NAN, 1), "ln_loss_train = nan must be a finite number;"),
    ("change", lambda r: an.entropy_change(r.line, None), "after = None must be an EntropyLandscape; give what"),
    ("weights of", lambda r: an.log_weights(None, [1.0]), "landscape = None must be an EntropyLandscape; give one"),
    ("weights at", lambda r: an.log_weights(r.plane, [1.0]), "samples of shape (1,) must end in 2, ... change samples"),
    ("value name", lambda r: an.natural_value(3), "natural_value: name = 3 must be the name of a CV; give a text"),
    (
        "value scale",
        lambda r: an.natural_value("0x_accuracy_test"),
        "begins with no scale above 0; give the name of a CV",
    ),
]


@pytest.mark.parametrize("case", LANDSCAPES, ids=[case[0] for case in LANDSCAPES])
def test_landscapes(runs: Runs, case: Case) -> None:
    refused(lambda: case[1](runs), case[2])


def test_values_of_any_numeric_type() -> None:
    assert memory().at(x=np.float32(1)) == memory().at(x=torch.tensor(1.0)) == memory().at(x=1) == 0


# ------------------------------------------------------------------------------- averages, profiles, training, progress

AVERAGES: list[Case] = [
    (
        "width 0",
        lambda r: r.equilibrium(width=0),
        "equilibrium: width = 0 must be a finite number above 0; change width",
    ),
    ("width nan", lambda r: r.equilibrium(width=NAN), "width = nan must be a finite number above 0; change width"),
    ("width -1", lambda r: r.equilibrium(width=-1), "width = -1 must be a finite number above 0; change width"),
    (
        "width text",
        lambda r: r.equilibrium(width="a"),
        "width = 'a' must be a finite number above 0; give a plain number",
    ),
    ("width tiny", lambda r: r.equilibrium(width=1e-9), "width = 1e-09 makes ... bins, more than 20000; widen it"),
    ("centred", lambda r: r.equilibrium(centred="no"), "centred = 'no' must be True or False; change centred"),
    ("bias", lambda r: r.equilibrium(bias="nope"), "no Wang-Landau bias 'nope'; it has: wl"),
    ("given", lambda r: an.equilibrium(r.wl, "nope", "weight_norm"), "no observable 'nope'; it has 'accuracy_test',"),
    ("of", lambda r: an.equilibrium(r.wl, "ln_loss_train", None), "equilibrium: of = None must be a name; give a text"),
    (
        "number for all",
        lambda r: an.equilibrium(r.wl, "ln_loss_train", "wl_increment"),
        "has shape () ... choose one with",
    ),
    ("no table", lambda r: an.mean_curve([]), "mean_curve: no table; give at least one"),
    (
        "curves",
        lambda r: an.mean_curve([r.table.fine]),
        "tables = [Curve( ... must be one or more EquilibriumTable; give",
    ),
    ("a run", lambda r: an.mean_curve([r.wl]), "must be one or more EquilibriumTable; give what equilibrium gives"),
    ("twice", lambda r: an.mean_curve([r.table] * 2), "the same table twice is no independent run; give each run once"),
    ("widths", lambda r: an.mean_curve([r.table, r.equilibrium(width=0.3)]), "do not lie on one grid; make all tables"),
    ("along", lambda r: r.profile([]), "along = [] must be one observable or two different ones; change along"),
    ("along twice", lambda r: r.profile(["a", "a"]), "must be one observable or two different ones; change along"),
    ("along array", lambda r: r.profile(np.array(["a"])), "must be one observable or two different ones; change along"),
    ("bins 0", lambda r: r.profile(bins=0), "profile: bins = 0 must be a whole number of at least 1; change bins"),
    (
        "bins text",
        lambda r: r.profile(bins="10"),
        "bins = '10' must be a whole number of at least 1, or 'values'; change",
    ),
    ("bins many", lambda r: r.profile(bins=10**7), "make more than 1000000 bins; take fewer"),
    ("reversed", lambda r: r.profile(between=(1, 0)), "between = 1 to 0 must rise; swap or widen them"),
    ("between nan", lambda r: r.profile(between=(NAN, 1)), "between = nan must be a finite number; change between"),
    ("between 5", lambda r: r.profile(between=5), "between = 5 must be a pair (low, high) ... change between"),
    ("beyond", lambda r: r.profile(between=(50, 60)), "no frame lies between the limits; change between"),
    ("final bias", lambda r: r.profile(final_bias="no"), "final_bias = 'no' must be True or False; change final_bias"),
    ("beta", lambda r: r.profile(beta=NAN), "beta = nan must be a finite number; change beta"),
    ("kT", lambda r: r.profile(kT=0), "no observable 'potential_energy'; it has"),
    ("blocks", lambda r: r.profile(blocks=1), "blocks = 1 must be a whole number of at least 2; change blocks"),
    ("entropy_at", lambda r: r.profile().entropy_at(), "0 values for ln_loss_train; give one of each"),
    ("entropy_at text", lambda r: r.profile().entropy_at("a"), "ln_loss_train = 'a' must be a finite number; give a"),
    ("entropy_at far", lambda r: r.profile().entropy_at(99), "is outside the grid, ... give one inside"),
    (
        "discrete",
        lambda r: r.profile(bins="values").landscape(),
        "discrete values lie on no grid; take bins = a number",
    ),
    (
        "names",
        lambda r: an.frame_weights(r.wl, names="weight_norm"),
        "names = 'weight_norm' must be a list ... give [name",
    ),
    ("block", lambda r: an.frame_weights(r.wl).left_out(99), "block = 99 must be below ... change block"),
    ("block text", lambda r: an.frame_weights(r.wl).left_out("a"), "block = 'a' must be a whole number of at least 0;"),
    (
        "not Boltzmann",
        lambda r: an.boltzmann_averages(r.wl, "weight_norm"),
        "has no Boltzmann bias; give the trajectory",
    ),
    ("one quantity", lambda r: an.boltzmann_averages(r.wl, "ln_loss_train"), "are both 'ln_loss_train'; name two"),
    ("levels none", lambda r: an.training_curve(r.training, levels=[]), "levels must be one or more finite numbers;"),
    ("levels text", lambda r: an.training_curve(r.training, levels="a"), "levels = 'a' must be real numbers; give an"),
    (
        "spacing",
        lambda r: an.training_curve(r.training, spacing=0),
        "spacing = 0 must be a finite number above 0; change",
    ),
    ("spacing tiny", lambda r: an.training_curve(r.training, spacing=1e-9), "more than 100000 levels of ... widen it"),
    (
        "not recorded",
        lambda r: an.training_curve(r.training, "nope"),
        "training_curve: nope was not recorded; there is",
    ),
    (
        "biased",
        lambda r: an.training_curve(r.wl),
        "is no training: the bias 'wl' drives its walkers; give a run without",
    ),
    (
        "passage",
        lambda r: an.first_passage([0.0], [0.0], [1.0]),
        "x of shape (1,) must be an array of 2 axes; change x",
    ),
    ("passage y", lambda r: an.first_passage([[0.0]], [[0.0, 1.0]], [1.0]), "x (1, 1) and y (1, 2) differ; give both"),
    (
        "passage level",
        lambda r: an.first_passage([[0.0]], [[0.0]], 1.0),
        "levels of shape () must be a list [N]; change",
    ),
    ("advantage of", lambda r: an.entropy_advantage(None, r.curve), "mean_curve: no table; give at least one"),
    (
        "advantage to",
        lambda r: an.entropy_advantage(r.table, r.wl),
        "training = Trajectory( ... must be a TrainingCurve;",
    ),
    (
        "advantage other",
        lambda r: an.entropy_advantage(r.table, r.curve),
        "but training has accuracy_test ... take the same",
    ),
    ("final None", lambda r: r.final(None), "equilibrium = None must be one or more Curve; give what"),
    ("final none", lambda r: r.final([]), "curves of 0 kinds; give one or more of the same quantities"),
    ("final table", lambda r: r.final(r.table), "must be one or more Curve; give what EntropyLandscape.equilibrium"),
    ("final at", lambda r: r.final(r.table.fine, at=10**9), "at = 1000000000 is after the last step, 50; lower at"),
    ("final last", lambda r: r.final(r.table.fine, last=0), "last = 0 must be a finite number above 0; change last"),
    (
        "ends alike",
        lambda r: an.diagnose(r.wl, between=(0, 0)),
        "between 0 and 0: must be two different finite numbers,",
    ),
    ("ends text", lambda r: an.diagnose(r.wl, between="ab"), "between 'ab': must be two numbers, ... change them"),
    (
        "ends three",
        lambda r: an.diagnose(r.wl, between=(1, 2, 3)),
        "between (1, 2, 3): must be two numbers, ... change",
    ),
    (
        "ends far",
        lambda r: an.diagnose(r.wl, between=(5, 9)),
        "must lie on the grid of ln_loss_train, [0, 1]; move them",
    ),
    ("no CV", lambda r: an.diagnose(r.wl, cv=""), "no observable ''; it has"),
    (
        "other CV",
        lambda r: an.convergence_records([r.wl], cv="weight_norm"),
        "is not a CV of the bias 'wl'; choose from",
    ),
    ("visits", lambda r: an.flatness([-1, 2]), "visits must be finite numbers of at least 0; give a histogram"),
    ("mask", lambda r: an.flatness([1, 2], [True]), "known (1,) and visits (2,) differ; give a mask of"),
    ("crossings", lambda r: an.crossings([0.0], "a", 1), "crossings: low = 'a' must be a finite number; give a plain"),
    (
        "crossings of",
        lambda r: an.crossings(r.wl, 0, 1),
        "series = Trajectory( ... must be real numbers; give an array",
    ),
    ("crossings swap", lambda r: an.crossings([0.0], 1, 0), "low = 1 must be below high = 0; swap them"),
    ("trips", lambda r: an.round_trips_by([0, 1], [1], [2], 0, 1), "step must rise and have one for each of 2 frames;"),
]


@pytest.mark.parametrize("case", AVERAGES, ids=[case[0] for case in AVERAGES])
def test_averages(runs: Runs, case: Case) -> None:
    refused(lambda: case[1](runs), case[2])


def test_the_order_of_a_curve_does_not_matter(runs: Runs) -> None:
    curves = [
        Curve(x, 1 + x / 4, None, "ln_loss_train", "accuracy_test") for x in (np.array([-3.0, 0]), np.array([0, -3.0]))
    ]
    assert [runs.final(curve).advantage for curve in curves] == pytest.approx([0, 0])


# -------------------------------------------------------------------------------- motion, distances, sweeps, statistics

Q = np.random.default_rng(0).normal(size=(9, 2, 6))
SHAPES = {"0.weight": (2, 1), "0.bias": (2,), "2.weight": (1, 2)}
FLAT = Q[0, 0]
SWEEP = SweepTable(
    ("width",),
    {"width": np.array([2, 4, 8]), "status": np.array(["done"] * 3), "y": np.array([1.0, 2.0, 3.0])},
    ("",) * 3,
)
X = np.array([[0.0, 1.0], [1.0, 2.0]])

MOTION: list[Case] = [
    ("align flag", lambda: an.rmsd(Q, align="yes"), "rmsd: align = 'yes' must be True or False; change align"),
    ("layers flag", lambda: an.rmsd(Q, by_layer="no"), "rmsd: by_layer = 'no' must be True or False; change by_layer"),
    ("reference", lambda: an.rmsd(Q, 99), "rmsd: reference = 99 must be one of 9 frames; change reference"),
    ("reference text", lambda: an.rmsd(Q, "a"), "rmsd: reference = 'a' must be real numbers; give an array"),
    ("period 0", lambda: an.rmsd(Q, period=0), "rmsd: period must be a number above 0, or one for each of 6; change"),
    ("period shape", lambda: an.rmsf(Q, period=[1, 2]), "rmsf: period must be a number above 0, or one for each of 6;"),
    (
        "shape a number",
        lambda: an.layer_temperatures(Q, parameters={"a": 6}),
        "must be shapes by the names ... give them",
    ),
    (
        "shape a float",
        lambda: an.layer_temperatures(Q, parameters={"a": (6.0,)}),
        "must be shapes by the names ... give",
    ),
    ("no name", lambda: an.layer_temperatures(Q, parameters={1: (6,)}), "must be shapes by the names of tensors; give"),
    (
        "components",
        lambda: an.principal_components(Q, components=0),
        "components = 0 must be a whole number of at least 1",
    ),
    (
        "project text",
        lambda: an.principal_components(Q).project("a"),
        "frames = 'a' must be real numbers; give an array",
    ),
    (
        "project nan",
        lambda: an.principal_components(Q).project(FLAT * NAN),
        "frames are not all finite; leave such frames",
    ),
    ("project few", lambda: an.principal_components(Q).project([1.0]), "must end with 6 parameters; change frames"),
    ("lags", lambda: an.diffusion_coefficient(Q, between=5), "between = 5 must be two numbers, (low, high); change"),
    (
        "lags text",
        lambda: an.diffusion_coefficient(Q, between="ab"),
        "between = 'ab' must be two numbers, (low, high);",
    ),
    (
        "lags None",
        lambda: an.diffusion_coefficient(Q, between=(None, 1)),
        "between = None must be a finite number; give",
    ),
    ("lags none", lambda: an.diffusion_coefficient(Q, between=(8, 9)), "must hold two or more of the lags ... change"),
    ("max_lag", lambda: an.mean_squared_displacement(Q, max_lag=99), "max_lag = 99 must be below the 9 frames; change"),
    ("one frame", lambda: an.mean_squared_displacement(Q[:1]), "1 frame has no motion; give at least 2"),
    ("one walker", lambda: an.overlap(Q[:, :1]), "overlap: a single walker has no partner; give two or more"),
    (
        "align signs",
        lambda: an.align(FLAT, FLAT, SHAPES, signs="no"),
        "align: signs = 'no' must be True or False; change",
    ),
    (
        "align check",
        lambda: an.align(FLAT, FLAT, SHAPES, check=None),
        "align: check = None must be True or False; change",
    ),
    ("align system", lambda: an.align(FLAT, FLAT, SHAPES, system=3), "system = int has no torch module; give module="),
    ("names None", lambda: an.rename_neurons(FLAT, SHAPES, None), "permutations = None must be a list for each hidden"),
    ("names text", lambda: an.rename_neurons(FLAT, SHAPES, [["a"]]), "permutations = ['a'] must be real numbers; give"),
    (
        "signs 3",
        lambda: an.rename_neurons(FLAT, SHAPES, [[1, 0]], 3),
        "signs = 3 must be a list for each hidden layer;",
    ),
    (
        "names twice",
        lambda: an.rename_neurons(FLAT, SHAPES, [[0, 0]]),
        "must be one of each hidden layer, ... change them",
    ),
    (
        "names of nan",
        lambda: an.rename_neurons(FLAT * NAN, SHAPES, [[1, 0]]),
        "positions are not all finite; give those",
    ),
    ("mean flag", lambda: an.autocorrelation([0, 1], common_mean="no"), "common_mean = 'no' must be True or False;"),
    ("series", lambda: an.autocorrelation(None), "autocorrelation: series = None must be real numbers; give an array"),
    ("average of", lambda: an.running_average("a", 1), "values = 'a' must be real numbers; give an array of them"),
    ("average 2D", lambda: an.running_average([[1.0]], 1), "values of shape (1, 1) must be a list [N]; change values"),
    (
        "window",
        lambda: an.running_average([1.0, 2.0], 2),
        "window = 2 must be an odd number of frames, ... take 1 or 3",
    ),
    ("folder", lambda: an.read_sweep(None), "read_sweep: folder = None must be a path; give the folder"),
    ("column", lambda: SWEEP[["y"]], "the sweep has no column ['y']; it has width, status, y"),
    ("where", lambda: SWEEP.where(width=3), "the sweep has no width = 3; choose one of 2, 4, 8"),
    ("where many", lambda: SWEEP.where(width=np.array([2, 4])), "the sweep has no width = [2 4]; choose one of"),
    (
        "no sweep",
        lambda: an.scaling(None, "width", "y"),
        "table = None must be a SweepTable; give what read_sweep gives",
    ),
    (
        "given",
        lambda: an.scaling(SWEEP, "width", "y", given="width=2"),
        "given = 'width=2' must be settings and their values;",
    ),
    (
        "weighted",
        lambda: an.scaling(SWEEP, "width", "y", weighted="no"),
        "weighted = 'no' must be True or False; change",
    ),
    ("no points", lambda: an.fit_power(None, None), "fit_power: x must be a list of finite numbers; change x"),
    (
        "edges",
        lambda: an.conditional_mean(X, X, X, [2, 1]),
        "edges must be an increasing list of at least 2; sort them",
    ),
    (
        "edges text",
        lambda: an.conditional_mean(X, X, X, "a"),
        "edges = 'a' must be real numbers; give an array of them",
    ),
    ("x None", lambda: an.conditional_mean(None, X, X, [0, 1]), "x = None must be real numbers; give an array of them"),
    ("left out", lambda: an.jackknife([]), "left_out of shape (0,) must be [G, ...], G at least 2; give more"),
    (
        "origin",
        lambda: an.average_bins([0.0, 1], [0, 1], 1, origin=NAN),
        "origin = nan must be a finite number; change",
    ),
    ("centres", lambda: an.average_bins([0.0, 0], [0, 1], 1), "centers ... must rise by equal steps; change centers"),
    ("falling", lambda: an.average_bins([1.0, 0], [0, 1], 1), "centers ... must rise by equal steps; change centers"),
]


@pytest.mark.parametrize("case", MOTION, ids=[case[0] for case in MOTION])
def test_motion(case: Case) -> None:
    refused(case[1], case[2])


# ----------------------------------------------------------------------------------- random numbers, parts of one's own

STREAMS = RandomStreams(1)
NOISE = Purpose.NOISE

RANDOM: list[Case] = [
    ("device", lambda: RandomStreams(1, "nope"), "RandomStreams: device = 'nope' is not there; give 'cpu'"),
    ("seed", lambda: RandomStreams(2**64), "seed = 18446744073709551616 must be below 2^64; take a smaller seed"),
    ("purpose", lambda: STREAMS.normal(99, (2,)), "purpose = 99 must be a Purpose; choose one of TORCH, START,"),  # type: ignore[arg-type]
    ("shape", lambda: STREAMS.normal(NOISE, 3), "shape = 3 must be whole numbers (W, ...); change shape"),  # type: ignore[arg-type]
    (
        "negative",
        lambda: STREAMS.normal(NOISE, (-1, 2)),
        "shape = (-1, 2) must be whole numbers (W, ...); change shape",
    ),
    (
        "step",
        lambda: STREAMS.normal(NOISE, (2,), step=-1),
        "step = -1 must be a whole number of at least 0; change step",
    ),
    (
        "step text",
        lambda: STREAMS.normal(NOISE, (2,), step="a", draw=0),
        "step = 'a' must be a whole number of at least",
    ),  # type: ignore[arg-type]
    (
        "step high",
        lambda: STREAMS.normal(NOISE, (2,), step=2**48),
        "step = 281474976710656 must be below ... change step",
    ),
    (
        "draw",
        lambda: STREAMS.uniform(NOISE, (2,), step=1, draw=1.5),
        "draw = 1.5 must be a whole number of at least 0;",
    ),  # type: ignore[arg-type]
    (
        "draw high",
        lambda: STREAMS.words(NOISE, (2,), step=1, draw=2**16),
        "draw = 65536 must be below 65536; change draw",
    ),
    ("draw alone", lambda: STREAMS.normal(NOISE, (2,), draw=3), "draw = 3 is one of a step; give step=, too, or leave"),
    (
        "type",
        lambda: STREAMS.normal(NOISE, (2,), dtype=torch.int64),
        "dtype = torch.int64 must be a floating type; give",
    ),
    ("first", lambda: STREAMS.normal(NOISE, (2,), first=-1), "first = -1 must be a whole number of at least 0; change"),
    ("count", lambda: STREAMS.integers(NOISE, 0, (2,)), "count = 0 must be a whole number of at least 1; change count"),
    ("count high", lambda: STREAMS.integers(NOISE, 2**40, (2,)), "count = 1099511627776 must be at most 2^31; make it"),
    ("orders", lambda: STREAMS.orders(NOISE, (2,)), "shape = (2,) must be [W, N]; change shape"),  # type: ignore[arg-type]
    ("generator", lambda: RandomStreams.of(None), "generator = None must be one of torch; give one"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("case", RANDOM, ids=[case[0] for case in RANDOM])
def test_random_streams(case: Case) -> None:
    refused(case[1], case[2])


def own(**parts: Any) -> Simulation:
    """A few steps with an integrator of one's own."""
    kind = type("Own", (Langevin,), parts)
    return Simulation(AnalyticSystem(2, Harmonic(), start=0.1), kind(0.01, 1.0), walkers=2, every=1).advance(3)


class NoStep(Integrator):
    def init(self, positions: Any, force_field: Any, generator: Any) -> State:
        zeros = torch.zeros_like(positions)
        return State(positions, zeros, zeros, *force_field.energies(positions, 0), generator)


class NoInit(Integrator):
    def step(self, state: Any, force_field: Any) -> State:
        return state


class Stranger:
    init, step = NoStep.init, NoInit.step


def moved_by(integrator: Any) -> Simulation:
    return Simulation(AnalyticSystem(2, Harmonic(), start=0.1), integrator)


OWN: list[Case] = [
    ("no step", lambda: moved_by(NoStep()), "NoStep: the method step is missing, ... define step(state, force_field)"),
    (
        "no init",
        lambda: moved_by(NoInit()),
        "NoInit: the method init is missing, ... define init(positions, force_field,",
    ),
    (
        "stranger",
        lambda: moved_by(Stranger()),
        "conserved, finished, summary, refresh is missing; derive the class from nnsim.protocols",
    ),
    ("step = 3", lambda: own(step=3), "Own: the method step is missing, or takes other arguments; define step(state"),
    (
        "arguments",
        lambda: own(step=lambda self: None),
        "Own: the method step is missing, or takes other arguments; define",
    ),
    ("step None", lambda: own(step=lambda *a: None), "Own: step() returned a NoneType; it must return the nnsim.state"),
    ("init None", lambda: own(init=lambda *a: None), "Own: init() returned a NoneType; it must return the nnsim.state"),
    ("init raises", lambda: own(init=raising), "Own: init() fails: ZeroDivisionError: division by zero; repair it"),
    ("order 0", lambda: own(order=0), "Own: order = 0 must be a whole number of at least 1; change order"),
    ("order text", lambda: own(order="a"), "Own: order = 'a' must be a whole number of at least 1; change order"),
    ("order 1.5", lambda: own(order=1.5), "Own: order = 1.5 must be a whole number of at least 1; change order"),
    ("symmetric", lambda: own(symmetric="no"), "Own: symmetric = 'no' must be True or False; change symmetric"),
    ("metropolis", lambda: own(metropolis=None), "Own: metropolis = None must be True or False; change metropolis"),
    ("gradients", lambda: own(needs_gradients="no"), "Own: needs_gradients = 'no' must be True or False; change"),
    ("time step", lambda: own(time_step=None), "Own: time_step = None must be a finite number above 0; give a plain"),
    ("time step -1", lambda: own(time_step=-1.0), "Own: time_step = -1 must be a finite number above 0; change"),
    ("conserved", lambda: own(conserved=raising), "Own: conserved() fails: ZeroDivisionError: ... repair it"),
    ("conserved 1", lambda: own(conserved=lambda *a: 1.0), "Own: conserved() returned 1.0; it must return one finite"),
    (
        "conserved [W, n]",
        lambda: own(conserved=lambda self, s: s.positions),
        "returned a tensor of shape (2, 2); it must",
    ),
    (
        "conserved nan",
        lambda: own(conserved=lambda self, s: s.energy * NAN),
        "it must return one finite number for each",
    ),
]


@pytest.mark.parametrize("case", OWN, ids=[case[0] for case in OWN])
def test_integrators_of_ones_own(case: Case) -> None:
    refused(case[1], case[2])


def test_an_integrator_need_not_know_what_is_conserved() -> None:
    assert own(conserved=lambda self, state: None, order=np.int64(1), symmetric=np.False_).state.step == 3


POINTS, LABELS = torch.linspace(-1, 1, 8).reshape(4, 2), torch.tensor([0, 1, 0, 1])


def network(**settings: Any) -> NeuralNetwork:
    return NeuralNetwork(torch.nn.Linear(2, 2), (POINTS, LABELS), **settings)


def trained(**settings: Any) -> Simulation:
    return Simulation(network(), GradientDescent(0.1, **settings)).advance(2)


def observed(thing: Any) -> Simulation:
    return Simulation(AnalyticSystem(2, start=0.1), Langevin(0.01, 1.0), observe=[thing])


def biased(bias: Any, **settings: Any) -> Simulation:
    return Simulation(AnalyticSystem(2, start=0.1), Langevin(0.01, 1.0), bias=bias, **settings)


def frozen(value: Any) -> WangLandau:
    bias = WangLandau(cv.WeightNorm(), Grid(0, 9, 10), FlatnessHalving(0.1))
    bias.frozen = value
    return bias


def ran(**settings: Any) -> Simulation:
    return Simulation(AnalyticSystem(2, start=0.1), Langevin(0.01, 1.0)).run(1, **settings)


NORM = cv.WeightNorm()
PARTS: list[Case] = [
    (
        "schedule text",
        lambda: trained(schedule=lambda step: "a"),
        "schedule(0) = 'a' must be a finite number of at least",
    ),
    (
        "schedule nan",
        lambda: trained(schedule=lambda step: NAN),
        "schedule(0) = nan must be a finite number of at least",
    ),
    (
        "schedule < 0",
        lambda: trained(schedule=lambda step: -1),
        "schedule(0) = -1 must be a finite number of at least 0;",
    ),
    (
        "schedule raises",
        lambda: trained(schedule=raising),
        "fails at step 0: ZeroDivisionError: ... give a function of",
    ),
    ("confine", lambda: trained(confine="no"), "GradientDescent: confine = 'no' must be True or False; change confine"),
    ("nesterov", lambda: trained(nesterov="no"), "nesterov = 'no' must be True or False; change nesterov"),
    ("box 2.0", lambda: network(box=2.0), "NeuralNetwork: box = 2.0 must be a box; give nnsim.Box(limit) or nnsim"),
    ("box class", lambda: network(box=Box), "must be a box; give nnsim.Box(limit) or nnsim"),
    (
        "weights 0",
        lambda: CrossEntropy(weight=[0, 0]),
        "weight = [0, 0] makes a loss that is always 0; give one above 0",
    ),
    ("lattice", lambda: Lattice("ab"), "Lattice: values = 'ab' must be two or more different finite numbers; give"),  # type: ignore[arg-type]
    (
        "lattice 3",
        lambda: Lattice(3),
        "Lattice: values = 3 must be two or more different finite numbers; change values",
    ),  # type: ignore[arg-type]
    (
        "lattice one",
        lambda: Lattice([1, 1]),
        "values = [1, 1] must be two or more different finite numbers; change values",
    ),
    ("index", lambda: observed(cv.Parameter(9)), "index = 9 must be below the number of parameters, 2; lower it"),
    ("reference", lambda: cv.Distance(NAN), "Distance: reference = nan must be finite, ... change reference"),
    (
        "references",
        lambda: observed(cv.Distance([0.0] * 3)),
        "has 3 values for 2 parameters; give one for each, or one",
    ),  # type: ignore[arg-type]
    ("name 3", lambda: observed(cv.WeightNorm(3)), "the observable WeightNorm has name = 3; give a text"),  # type: ignore[arg-type]
    (
        "returns 3",
        lambda: observed(cv.Energy(lambda q: 3)),
        "'energy' is a int; return a tensor [W, ...], W the number of",
    ),  # type: ignore[arg-type, return-value]
    ("raises", lambda: observed(cv.Energy(raising)), "'energy' fails: ZeroDivisionError: division by zero; repair it"),
    ("scalar", lambda: observed(cv.Energy(torch.sum)), "has shape (); it must begin with ... walkers, 1; change it"),
    (
        "slope",
        lambda: cv.SmoothedAccuracy(slope=True),
        "slope = True must be a finite number above 0; give a plain number",
    ),
    ("frozen", lambda: biased(frozen("no")), "WangLandau: frozen = 'no' must be True or False; change frozen"),
    ("wall", lambda: Wall(NORM), "Wall: it has no side; give upper, lower, or both"),
    ("wall name", lambda: biased(Wall(NORM, upper=1.0, name=3)), "the bias Wall has name = 3; give a text"),  # type: ignore[arg-type]
    ("wall empty", lambda: biased(Wall(NORM, upper=1.0, name="")), "name '' cannot be stored; use letters, digits,"),
    ("umbrella", lambda: biased(Umbrella(NORM, 0.0, 1.0, name=None)), "the bias Umbrella has name = None; give a text"),  # type: ignore[arg-type]
    ("period", lambda: Umbrella(NORM, 0.0, 1.0, periods=True), "periods = True must be a finite number above 0; give"),
    (
        "windows",
        lambda: biased(Umbrella(NORM, [0.0, 1.0], 1.0)),
        "is for 2 walkers, but there are 1; give each walker a",
    ),
    ("output", lambda: ran(output=3), "Simulation: output = 3 must be a path; give the folder to write, NAME.zarr"),
    ("overwrite", lambda: ran(overwrite="no"), "Simulation: overwrite = 'no' must be True or False; change overwrite"),
    ("accept", lambda: ran(accept_changes=True), "accept_changes is for a run that goes on; use it with resume=True"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", PARTS, ids=[case[0] for case in PARTS])
def test_parts(case: Case) -> None:
    refused(case[1], case[2])


def test_a_message_is_not_wrapped_in_another() -> None:
    with pytest.raises(InputError, match=r"^Umbrella: 'umbrella' is for 2 walkers"):
        biased(Umbrella(NORM, [0.0, 1.0], 1.0))


# ----------------------------------------------------------------------------------------------------- the command line

COMMANDS = [
    ("analyze equilibrium RUN --of weight_norm --given=", "has no observable ''; it has"),
    (
        "analyze equilibrium RUN --of weight_norm --width nan",
        "width = nan must be a finite number above 0; change width",
    ),
    ("analyze equilibrium RUN --of weight_norm --since 1.0", "since = 1 must be at least 0 and below 1; change since"),
    ("analyze equilibrium RUN --of weight_norm --between 5 9", "must lie on the grid ... move them inside (--between)"),
    ("analyze equilibrium RUN --of nope", "has no observable 'nope'; it has"),
    ("analyze equilibrium RUN --of weight_norm -o nowhere/x.csv", "cannot be written ... choose another --output"),
    (
        "analyze reweight RUN --along ln_loss_train --bins 0",
        "bins = 0 must be a whole number of at least 1; change bins",
    ),
    ("analyze reweight RUN --along ln_loss_train --between 1 0", "between = 1 to 0 must rise; swap or widen them"),
    ("analyze reweight RUN --along ln_loss_train --beta nan", "beta = nan must be a finite number; change beta"),
    ("analyze advantage RUN RUN --training RUN --of accuracy_test", "are the same ... give each run once"),
    (
        "analyze advantage RUN --training RUN --of weight_norm",
        "is no training: the bias 'wl' ... give a run without one",
    ),
    ("analyze boltzmann RUN --of weight_norm", "has no Boltzmann bias; give the trajectory of a run with one"),
    ("analyze scaling . --x width --value y", "there is no sweep; give the folder that nnsim sweep wrote"),
    ("plot landscape RUN RUN -o x.png", "are the same ... give each run once"),
    ("plot landscape RUN -o x.xyz", "must end in a known format; use one of"),
    ("plot evolution RUN -o x.png", "none of ntk_entropy, ntk_trace, loss was recorded; there is"),
    ("info nope.zarr", "does not exist; check the path"),
    ("run input.py --accept-changes", "--accept-changes is for a run that goes on; use it with --resume"),
    ("run input.py --resume --accept-changes -o no.zarr", "nothing to resume there; start without --resume"),
    ("run input.py --resume --overwrite", "--resume and --overwrite exclude each other; choose one"),
]


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_commands(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str) -> None:
    """One line, status 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    line = error_of(*(str(runs.wl.path) if word == "RUN" else word for word in command.split()))
    place = 0
    for part in words.split(" ... "):
        assert part in line[place:], line
        place = line.index(part, place)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- kinds that the campaign has found

KERNEL = torch.eye(3)
FOUND: list[Case] = [
    ("complex", lambda r: Box(np.array([1j])), "Box: limit = array([0.+1.j]) must be a number or numbers; give plain"),
    ("true", lambda r: Box(True), "Box: limit = True must be a number or numbers; give plain numbers"),
    ("no limits", lambda r: Box(), "Box: a reflecting box needs limit, or lower and upper; give them"),
    ("huge", lambda r: AnalyticSystem(10**30), "AnalyticSystem: n = 1000 ... must be below 2^64; take a smaller n"),
    ("bytes", lambda r: Grid(0, 9, bins=b"x"), "Grid: bins = b'x' must be a whole number of at least 4; change bins"),
    ("flag", lambda r: Grid(0, 9, 9, periodic="no"), "Grid: periodic = 'no' must be True or False; change periodic"),
    ("either", lambda r: Grid(0, 9), "Grid: bins = None and spacing = None; give either bins or spacing"),
    ("class", lambda r: Langevin(0.1, 1.0, kT=int), "Langevin: kT = <class 'int'> is a class; give a number, or a"),
    ("schedule", lambda r: GradientDescent(0.1, schedule=int), "GradientDescent: schedule = <class 'int'> must be a "),
    ("potential", lambda r: AnalyticSystem(2, 1j), "AnalyticSystem: potential = 1j must be None or a function ... cha"),
    ("start", lambda r: AnalyticSystem(2, start=NAN), "AnalyticSystem: start = nan must be finite numbers; change st"),
    ("shapes", lambda r: per_tensor_limits(3, 1.0), "per_tensor_limits: shapes = 3 must be the shapes of the tensors"),
    (
        "shape",
        lambda r: per_tensor_limits([3], 1.0),
        "per_tensor_limits: 3 in shapes must be a shape, such as (3, 2); ",
    ),
    (
        "module",
        lambda r: mlp((2, 3, 2), lambda: 1),
        "mlp: activation = <function ... makes 1, which is no module; give",
    ),
    (
        "classes",
        lambda r: resnet10(1.5),
        "resnet10: classes = 1.5 must be a whole number of at least 1; change classes",
    ),
    ("NTK flag", lambda r: cv.NTKTrace(per_row="no"), "NTKTrace: per_row = 'no' must be True or False; change per_row"),
    ("NTK seed", lambda r: cv.NTKTrace(seed=None), "NTKTrace: seed = None must be a whole number of at least 0; chang"),
    (
        "kernel",
        lambda r: ntk.entropy([1.0]),
        "ntk: kernel = [1.0] must be a tensor of floats; give what ntk.kernel giv",
    ),
    ("diagonal", lambda r: ntk.magnitudes(KERNEL[0, 0]), "ntk: a diagonal of shape () must be [..., n] with n above 0"),
    (
        "labels",
        lambda r: ntk.class_blocks(KERNEL, [1]),
        "class_blocks: labels = [1] must be a tensor [N] of integers; ",
    ),
    ("path", lambda r: Trajectory(3), "Trajectory: path = 3 must be a path; give that of a file or folder"),
    ("line break", lambda r: Trajectory("a\nb"), "a\\nb does not exist; check the path"),
    ("runs", lambda r: Trajectories(3), "Trajectories: runs = 3 must be trajectories or paths; give a list of them"),
    ("reported", lambda r: report.make(3), "report: runs = 3 must be trajectories or paths; give a list of them"),
    ("title", lambda r: report.make(r.wl, title=3), "report: title = 3 must be a name; give a text"),
    ("between", lambda r: report.make(r.wl, between=(NAN, 1)), "report: between = nan must be a finite number; change"),
    ("folder", lambda r: r.wl.simulation(folder=3), "Trajectory.simulation: folder = 3 must be a path; give"),
    ("export", lambda r: write_csv(3, "a.csv"), "write_csv: trajectory = 3 must be a trajectory or its path; give one"),
    ("output", lambda r: export(r.wl, 3), "export: output = 3 must be a path; give that of a file or folder"),
    ("overwrite", lambda r: save(figure(), "a.png", overwrite=3), "picture: overwrite = 3 must be True or False; chan"),
    ("target", lambda r: save(3, "a.png"), "save: target = 3 must be a figure or axes; give what a plot function giv"),
    ("dpi", lambda r: save(figure(), "a.png", 1.5), "save: dpi = 1.5 must be a finite number of at least 10; change d"),
    ("topology", lambda r: atom_order(3), "atom_order: parameters = 3 must be names and shapes of the tensors; give"),
    ("axis flag", lambda r: Axis("a", [0.5], [0, 1], periodic="no"), "Axis 'a': periodic = 'no' must be True or False"),
    ("axis name", lambda r: Axis(3, [0.5], [0, 1]), "Axis: name = 3 must be a name; give a text"),
    ("flat", lambda r: EntropyLandscape([0.0], [1], (Axis("a", [0.5], [0, 1]),), flat="no"), "flat = 'no' must be Tru"),
    ("weighted", lambda r: an.fit_power([1, 2, 3], [1, 2, 3], weighted=1), "fit_power: weighted = 1 must be True or "),
    ("networks", lambda r: an.rename_neurons(np.zeros((3, 2)), {}, []), "rename_neurons: positions of shape (3, 2) mu"),
    ("note", lambda r: plot_slices(volume(), note=3), "plot: note = 3 must be a name; give a text"),
    (
        "landscape",
        lambda r: plot_slices(3),
        "plot_slices: landscape = 3 must be of the kind EntropyLandscape; give Ent",
    ),
    ("names", lambda r: plot_histogram(r.wl, 3), "plot_histogram: names = 3 must be names; give a text, or a list of"),
    ("walkers", lambda r: plot_layers(r.wl, walkers=3), "walkers = 3 must be a list of whole numbers; change walkers"),
    ("count", lambda r: plot_parameters(r.wl, max_panels=-1), "plot_parameters: max_panels = -1 must be a whole numbe"),
]


def figure() -> Any:
    return plot_landscape(volume().marginal(0, 1))


def volume() -> EntropyLandscape:
    edges = np.linspace(0.0, 1.0, 4)
    axes = tuple(Axis(name, edges[:-1] + 1 / 6, edges) for name in "abc")
    return EntropyLandscape(np.zeros((3, 3, 3)), np.ones((3, 3, 3)), axes)


@pytest.mark.parametrize(("make", "words"), [one[1:] for one in FOUND], ids=[one[0] for one in FOUND])
def test_what_the_campaign_has_found(runs: Runs, make: Callable[..., Any], words: str) -> None:
    refused(lambda: make(runs), words)
