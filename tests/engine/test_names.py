"""One name, one thing: two different ones are refused wherever they meet, and what is equal stays one."""

import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nnsim import Bias, CollectiveVariable, Evaluation, Grid, InputError, Simulation, State, cv
from nnsim.analysis import natural_value
from nnsim.bias import Metadynamics, Umbrella, Wall, WangLandau
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.plotting import readable
from nnsim.running.recording import RESERVED
from nnsim.schedules import InverseTime, LinearRamp
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification


class Named(CollectiveVariable):
    """x times the power-th power, under any name."""

    def __init__(self, name: str, power: int = 1) -> None:
        self.name, self._power = name, power

    def __call__(self, evaluation: Evaluation) -> Tensor:
        return evaluation.positions[:, 0] ** self._power


class Numbers(Bias):
    """Nothing, with a number of its own."""

    def __init__(self, name: str, number: str) -> None:
        self.name, self.cvs, self._number = name, (cv.Parameter(0),), number

    def energy(self, s: Tensor, step: int) -> Tensor:
        return 0 * s[:, 0]

    def observables(self) -> dict[str, float]:
        return {self._number: 1.0}


class Twice:
    """An observable that is no CV."""

    name = "twice"

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        return self.factor * state.positions


def simulation(bias: Any = (), observe: Any = (), integrator: Any = None, **more: Any) -> Simulation:
    chosen = integrator or Langevin(0.05, 1.0)
    return Simulation(
        AnalyticSystem(2, Harmonic(), start=0.5), chosen, bias=bias, observe=observe, walkers=2, every=2, **more
    )


def hills(of: CollectiveVariable) -> Metadynamics:
    return Metadynamics(of, Grid(-9.0, 9.0, 90), height=0.1, sigma=0.3, pace=2)


ANOTHER = "give one of them another name"
REFUSED: dict[str, tuple[Callable[[], Simulation], list[str]]] = {
    "observable and CV": (
        lambda: simulation(hills(Named("x")), [Named("x", 2)]),
        ["the CV Named of a bias and the observable Named are different, but called 'x'", ANOTHER, "(_power: 1 -> 2)"],
    ),
    "observable and CV of another class": (
        lambda: simulation(hills(Named("distance")), [cv.Distance()]),
        ["the CV Named of a bias and the observable Distance", ANOTHER],
    ),
    "distances": (
        lambda: simulation(observe=[cv.Distance(0.0), cv.Distance(1.0)]),
        ["observable Distance and the observable Distance", "called 'distance'", "(reference: 0.0 -> 1.0)", ANOTHER],
    ),
    "CVs of one bias": (
        lambda: simulation(Umbrella([cv.Distance(0.0), cv.Distance(1.0)], 0.0, stiffness=1.0)),
        ["two different collective variables are called 'distance'", ANOTHER],
    ),
    "energies": (
        lambda: simulation(observe=[cv.Energy(lambda q: q.sum(1)), cv.Energy(lambda q: 2 * q.sum(1))]),
        ["called 'energy'", ANOTHER, "function: lambda q: q.sum(1) -> lambda q: 2 * q.sum(1)"],
    ),
    "observables": (lambda: simulation(observe=[Twice(), Twice(3.0)]), ["called 'twice'", "factor: 2.0 -> 3.0"]),
    "intervals": (lambda: simulation(observe=[(Twice(), 2), (Twice(), 4)]), ["every 2 and every 4 steps; leave one"]),
    "intervals of a CV": (
        lambda: simulation(hills(Named("x")), [(Named("x"), 2), (Named("x"), 4)]),
        ["'x' is asked for every 4 and every 2 steps; leave one out"],
    ),
    "a bias's number": (
        lambda: simulation(hills(Named("x")), [Named("metadynamics_hills")]),
        ["the number 'hills' of the bias 'metadynamics' and the observable Named", "called 'metadynamics_hills'"],
    ),
    "a CV and a bias's number": (
        lambda: simulation(hills(Named("metadynamics_offset"))),
        ["the CV Named of a bias and the number 'offset' of the bias 'metadynamics'"],
    ),
    "numbers of two biases": (
        lambda: simulation([Numbers("a", "b_c"), Numbers("a_b", "c")]),
        ["the number 'b_c' of the bias 'a' and the number 'c' of the bias 'a_b'", "called 'a_b_c'"],
    ),
    "letters' case": (
        lambda: simulation(observe=[Named("Loss"), Named("loss")]),
        ["called 'Loss' and 'loss', one folder on many disks", ANOTHER],
    ),
    "accents": (
        lambda: simulation(observe=[Named(unicodedata.normalize(form, "é")) for form in ("NFC", "NFD")]),
        ["one folder on many disks"],
    ),
    "biases that differ in case": (
        lambda: simulation([Wall(cv.WeightNorm(), upper=1, name=name) for name in ("wall", "Wall")]),
        ["two different biases are called 'Wall'", ANOTHER],
    ),
    "walls of two strengths": (
        lambda: simulation([Wall(cv.WeightNorm(), upper=1, strength=one) for one in (10.0, 20.0)]),
        ["two different biases are called 'wall_upper_weight_norm'", ANOTHER, "(strength: 10.0 -> 20.0)"],
    ),
    "equal walls": (
        lambda: simulation([Wall(cv.WeightNorm(), upper=1) for _ in range(2)]),
        ["a bias is given twice, so it would count twice; leave one out"],
    ),
    "kT": (lambda: simulation(observe=[Named("kT")], integrator=MonteCarlo(0.1)), ["'kT', which is kept for"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_two_things_of_one_name_are_refused(name: str) -> None:
    make, parts = REFUSED[name]
    with pytest.raises(InputError) as caught:
        make()
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize("name", RESERVED)
def test_names_of_what_runs_record_are_kept(name: str) -> None:
    with pytest.raises(InputError, match=f"{name!r}, which is kept for what runs record themselves; give it another"):
        simulation(observe=[Named(name)])
    with pytest.raises(InputError, match=f"{name!r}, which is kept"):
        simulation(hills(Named(name)))
    if name == "kT":
        simulation(integrator=Langevin(0.05, 1.0, LinearRamp(1.0, 0.5, 10)))


EQUAL: dict[str, Callable[[], Any]] = {
    "dataclass": cv.WeightNorm,
    "reference": lambda: cv.Distance(torch.ones(2)),
    "function": lambda: cv.Energy(lambda q: q.square().sum(1)),
    "own class": lambda: Named("x", 2),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_things_of_one_name_are_one(name: str) -> None:
    make = EQUAL[name]
    run = simulation([hills(make()), Wall(make(), upper=100.0)], [make(), make()]).advance(4)
    assert len(run.force_field.cvs) == 1
    assert run.history.names.count(make().name) == 1
    np.testing.assert_array_equal(run.history[make().name][-1], run.state.cvs[:, 0])
    recorded = simulation(observe=[(make(), 2), make()]).advance(4)
    assert recorded.history[make().name].shape == (2, 2)


def test_default_names_tell_slopes_apart(tmp_path: Any) -> None:
    """5 is the default, whose name does not say it."""
    names = [cv.SmoothedAccuracy("test", slope).name for slope in (5, 10, 0.25)]
    assert names == ["smoothed_accuracy_test", "smoothed_accuracy_test_slope10", "smoothed_accuracy_test_slope0.25"]
    name = cv.SmoothedAccuracy("train", 20.0, "logit", 10.0).name
    assert name == "10x_logit_smoothed_accuracy_train_slope20"
    assert readable(name) == "10 × logit of smoothed train accuracy, slope 20"
    value, natural = natural_value(name)
    assert natural == "smoothed_accuracy_train_slope20"
    coordinate = cv.SmoothedAccuracy("train", 20.0, "logit", 10.0)
    np.testing.assert_allclose(value(np.array([7.0])), coordinate.accuracy(torch.tensor([7.0], dtype=torch.float64)))

    system = spiral_classification(hidden=(4,), points_per_class=5)
    schedule, grid = InverseTime(0.1, 100), Grid(lower=-0.2, upper=1.2, spacing=0.05)
    bias = WangLandau(cv.SmoothedAccuracy(), grid, schedule, kernel=0.1)
    run = Simulation(system, Langevin(0.01, 1.0), bias=bias, observe=[cv.SmoothedAccuracy(slope=50.0)], every=1)
    run.advance(2)
    assert (run.history["smoothed_accuracy_test"] != run.history["smoothed_accuracy_test_slope50"]).any()


def test_names_of_kernels_tell_their_settings_apart() -> None:
    settings: list[dict[str, Any]] = [
        *({}, {"points": 5}, {"points": 5, "subsamples": 3}, {"points": 5, "seed": 1}, {"label": 1}),
        *({"outputs": "all"}, {"points": 6}),
    ]
    for kind in (cv.NTKTrace, cv.NTKEntropy, cv.NTKSpectrum, cv.NTKMagnitudeVariance):
        names = {kind("train", **one).name for one in settings} | {kind("test").name}
        assert len(names) == len(settings) + 1
    assert cv.NTKTrace("train", per_row=True).name != cv.NTKTrace("train").name
