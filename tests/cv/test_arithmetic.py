"""CVs that are made of others: by arithmetic, and by functions."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import nnsim
from nnsim import Box, CollectiveVariable, DivergedError, EntropyLandscape, Grid, InputError, Simulation, Trajectory, cv
from nnsim.arithmetic import operation_of, period_of
from nnsim.bias import Metadynamics, Umbrella, Wall, WangLandau
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.plotting import readable
from nnsim.running.checks.parts import period_of as period_in
from nnsim.schedules import FlatnessHalving
from nnsim.systems import AnalyticSystem, NeuralNetwork

LN_TEST, LN_TRAIN = cv.LogLoss("test"), cv.LogLoss("train")
GAP = LN_TEST - LN_TRAIN
X, Y = cv.Parameter(0), cv.Parameter(1)


def network(**settings) -> NeuralNetwork:
    generator = torch.Generator().manual_seed(3)
    x, x_test = torch.randn(13, 3, generator=generator), torch.randn(7, 3, generator=generator)
    y, y_test = (torch.randint(0, 3, (len(one),), generator=generator) for one in (x, x_test))
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    return NeuralNetwork(module, (x, y), (x_test, y_test), box=Box(2.0), initial="normal", **settings)


def plane(**settings) -> AnalyticSystem:
    return AnalyticSystem(2, box=Box(lower=1.0, upper=2.0), start="uniform", **settings)


def simulation(combined, system=None, integrator=None, **settings) -> Simulation:
    """Under a weak spring along a CV."""
    settings = {"walkers": 3, "seed": 4, "precision": "double", "platform": "reference", **settings}
    integrator = integrator or Langevin(0.01, 1.0)
    return Simulation(system or plane(), integrator, bias=Umbrella(combined, 0.5, 2.0), **settings)


# ---------------------------------------------------------------------- names


NAMES = {
    "ln_loss_test_minus_ln_loss_train": GAP,
    "2_times_parameter_0_plus_parameter_1": 2 * X + Y,
    "parameter_0_minus_(parameter_1_minus_1)": X - (Y - 1),
    "parameter_0_minus_parameter_1_minus_1": X - Y - 1,
    "(parameter_0_plus_parameter_1)_times_parameter_0_over_parameter_1": (X + Y) * X / Y,
    "parameter_0_over_(parameter_1_times_parameter_0)": X / (Y * X),
    "minus_parameter_0_plus_parameter_1": -X + Y,
    "minus_(parameter_0_plus_parameter_1)": -(X + Y),
    "(minus_parameter_0)_power_2": (-X) ** 2,
    "parameter_0_power_(-1.5)": X**-1.5,
    "(-2)_times_parameter_0": -2 * X,
    "0.1_minus_parameter_0": np.float64(0.1) - X,
    "1e-05_over_parameter_0": torch.tensor(1e-5, dtype=torch.float64) / X,
    "gap_power_2": GAP.named("gap") ** 2,
    "(a_minus_b)_power_2": cv.Energy(torch.sum, name="a_minus_b") ** 2,
    "maximum_of_loss_train_and_loss_test": cv.Function(torch.maximum, cv.Loss("train"), cv.Loss("test")),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_say_how_a_cv_is_made(name):
    assert NAMES[name].name == name


def test_names_are_read_again():
    assert operation_of("(a_plus_b)_times_c_over_d") == ("(a_plus_b)_times_c", "over", "d")
    assert operation_of("a_minus_(b_minus_c)") == ("a", "minus", "(b_minus_c)")
    assert operation_of("minus_a") == ("", "minus", "a")
    assert operation_of("10x_logit_smoothed_accuracy_test_slope20") is None
    assert readable(GAP.name) == r"ln $L_\mathrm{test}$ − ln $L_\mathrm{train}$"
    assert readable(((GAP**2 + 1) * LN_TEST).name) == (
        r"((ln $L_\mathrm{test}$ − ln $L_\mathrm{train}$)$^{2}$ + 1) × ln $L_\mathrm{test}$"
    )
    assert readable((-cv.Accuracy("test")).name) == "−test accuracy"


def test_the_logit_of_a_part_is_not_that_of_the_whole():
    name = (cv.SmoothedAccuracy("test", coordinate="logit") - cv.SmoothedAccuracy("train")).name
    value, own = nnsim.analysis.natural_value(name)
    assert (own, float(value(np.array(-3.0)))) == (name, -3.0)


# ---------------------------------------------------------------------- values and forces


class Cubes(CollectiveVariable):
    """A CV of one's own, which counts how often it is evaluated."""

    name = "cubes"
    calls = 0

    def __call__(self, evaluation):
        type(self).calls += 1
        return (evaluation.positions**3).sum(-1)


CUBES = Cubes()
ENTROPY = cv.NTKEntropy("train")
OF_POSITIONS = {
    "sum": (X + 2 * Y - 3, lambda q: q[:, 0] + 2 * q[:, 1] - 3),
    "own": (CUBES / X - 1 / CUBES, lambda q: (q**3).sum(-1) / q[:, 0] - 1 / (q**3).sum(-1)),
    "distance": (cv.Distance(0.5) ** 2 * Y, lambda q: ((q - 0.5) ** 2).sum(-1) * q[:, 1]),
    "function": (
        cv.Function(lambda x, c: torch.sin(x) * c.sqrt(), X, CUBES, name="f") - X,
        lambda q: torch.sin(q[:, 0]) * (q**3).sum(-1).sqrt() - q[:, 0],
    ),
    "function of a function": (
        cv.Function(torch.exp, -cv.Function(torch.maximum, X, Y)), lambda q: torch.exp(-q.max(-1).values)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_POSITIONS)
def test_values_and_forces_are_those_of_the_formula(name):
    combined, formula = OF_POSITIONS[name]
    run = simulation(combined)
    q = run.state.positions.clone().requires_grad_()
    values = formula(q)
    (gradient,) = torch.autograd.grad(values.sum(), q)
    torch.testing.assert_close(run.state.cvs[:, 0], values.detach(), rtol=1e-13, atol=1e-13)
    forces = -2 * (values.detach() - 0.5)[:, None] * gradient
    torch.testing.assert_close(run.state.forces, forces, rtol=1e-12, atol=1e-12)


def test_the_tangent_kernel_may_be_a_part():
    """(S - ln L)^2, by finite differences in double precision."""
    run = simulation((ENTROPY - LN_TRAIN) ** 2, network())
    q, field = run.state.positions, run.force_field
    for i in (0, 7, 20):
        step = torch.zeros_like(q)
        step[:, i] = 1e-5
        slope = (field.energies(q + step, 0)[1] - field.energies(q - step, 0)[1]) / 2e-5
        torch.testing.assert_close(run.state.forces[:, i], -slope, rtol=1e-6, atol=1e-8)


def test_a_part_is_evaluated_once():
    run = simulation(CUBES * X, observe=[CUBES, (CUBES - 1) ** 2])
    run.force_field.biases[0].cvs, Cubes.calls = (CUBES * X,), 0
    field = nnsim.ForceField(run.system, [Umbrella([CUBES, CUBES * CUBES - 1 / CUBES], [0.0, 0.0], 1.0)])
    field(run.state.positions, 0)
    assert Cubes.calls == 1
    evaluation = run.force_field.evaluate(run.state.positions)
    for thing, _ in run.recording.observables:
        thing.observe(run.state, evaluation)
    assert Cubes.calls == 2


def test_one_evaluation_of_the_network_serves_all(monkeypatch):
    """Of both splits, which are asked for together."""
    run = simulation(GAP * cv.SmoothedAccuracy("train"), network())
    asked = []
    forward = run.system.forward
    monkeypatch.setattr(run.system, "forward", lambda q, splits: asked.append(tuple(splits)) or forward(q, splits))
    run.force_field(run.state.positions, 1)
    assert asked == [("test", "train")]


def test_what_its_parts_say_it_says():
    exact = cv.Accuracy("test")
    assert [one.differentiable for one in (GAP, GAP + exact, 2 * exact)] == [True, False, False]
    assert [one.discrete for one in (GAP, GAP + exact, 1 - exact)] == [False, False, True]
    with pytest.raises(InputError, match="needs forces, but the CV 'ln_loss_train_plus_accuracy_test' of the bias"):
        simulation(LN_TRAIN + exact, network())
    assert Simulation(network(), MonteCarlo(0.1), bias=Wall(LN_TRAIN + exact, upper=9.0)).advance(5).state.step == 5


def test_a_slow_bias_on_a_difference():
    """It is computed every third step only, beside a fast one on one of its parts."""
    pairs = [(Umbrella(GAP, 0.2, 3.0), 3), Umbrella(LN_TRAIN, 0.0, 1.0, name="fast")]
    run = Simulation(network(), Langevin(0.01, 1.0), bias=pairs, precision="double", walkers=2, every=3)
    for step in range(1, 7):
        before = run.state.cvs.clone()
        run.advance(1)
        assert torch.equal(run.state.cvs[:, 0], before[:, 0]) == (step % 3 != 0)
    evaluation = run.force_field.evaluate(run.state.positions)
    torch.testing.assert_close(run.state.cvs[:, 0], GAP(evaluation))


# ---------------------------------------------------------------------- what comes round


PERIODIC = Box(lower=-1.0, upper=2.0, kind="periodic")  # of width 3
NORM = cv.WeightNorm()
PERIODS = {
    "a multiple": (2 * X, 6.0), "a part of it": (1 - X / -2, 1.5), "a sum": (X + Y, 3.0),
    "two of one": (X - 2 * Y, 3.0),
    "three and two": (3 * X + 2 * Y, 3.0), "a sum with what does not": (X + NORM, 3.0),
    "nothing that does": (NORM**2, None), "a square": (X**2, None), "a product": (X * Y, None),
    "a quotient": (1 / X, None), "no common measure": (X + math.pi * Y, None),
    "none of it": (0 * X, None), "the first power": (X**1, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", PERIODS)
def test_periods(name):
    combined, period = PERIODS[name]
    assert period_in(combined, PERIODIC) == pytest.approx(math.inf if period is None else period, rel=1e-12)
    assert period_in(combined, Box(1.0)) == math.inf


def test_what_says_no_period_makes_none():
    energy = cv.Energy(torch.sum)
    assert period_in(energy + X, PERIODIC) is None
    assert period_in(cv.Function(torch.sin, X), PERIODIC) is None
    assert period_in(2 * cv.Function(torch.atan2, X, Y, period=2 * math.pi), PERIODIC) == pytest.approx(4 * math.pi)
    assert period_of("over", math.inf, 3.0, 1.0) == math.inf


def test_biases_are_held_against_the_period_of_a_sum():
    def build(combined, upper, **settings):
        grid = Grid(-3.0, upper, 30, **settings)
        bias = Metadynamics(combined, grid, height=0.1, sigma=0.3, pace=5)
        return Simulation(AnalyticSystem(2, box=PERIODIC, start=0.1), Langevin(0.01, 1.0), bias=bias)

    with pytest.raises(InputError, match=r"along 'parameter_0_minus_parameter_1', which repeats after 3;"):
        build(X - Y, 3.0)
    build(X - Y, 0.0, periodic=True).advance(3)
    with pytest.warns(nnsim.NNSimWarning, match="the CV 'parameter_0_times_parameter_1' of a bias jumps"):
        build(X * Y, 3.0)


# ---------------------------------------------------------------------- bad input


NEITHER = "must be a collective variable or a finite number; give one, such as"
REFUSED = {
    "a text": (lambda: GAP + "train", rf"the operand 'train' {NEITHER}"),
    "a text before it": (lambda: "train" * GAP, rf"the operand 'train' {NEITHER}"),
    "nothing": (lambda: GAP - None, rf"the operand None {NEITHER}"),
    "a class": (lambda: GAP / cv.Loss, rf"the operand <class .*Loss'> {NEITHER}"),
    "a flag": (lambda: GAP * True, rf"the operand True {NEITHER}"),
    "no finite number": (lambda: GAP + math.inf, rf"the operand inf {NEITHER}"),
    "numbers": (lambda: np.ones(3) * GAP, rf"the operand array.* {NEITHER}"),
    "an observable": (
        lambda: simulation(GAP + cv.NTKSpectrum("train"), network(), MonteCarlo(0.1)),
        "its part 'ntk_spectrum_train' has shape .3, 13., but one number for each of 3 walkers is needed",
    ),
    "division by 0": (lambda: GAP / 0, "is divided by 0; divide by another number"),
    "a CV as the exponent": (lambda: LN_TEST**LN_TRAIN, "the exponent of a power, .*, must be a number; .*torch.pow"),
    "a number to a CV": (lambda: 2**LN_TRAIN, "the exponent of a power, .*, must be a number"),
    "a text as the exponent": (lambda: GAP ** "2", rf"the operand '2' {NEITHER}"),
    "a name that is no text": (lambda: GAP.named(3), "name = 3 must be a name; give a text"),
    "a function of nothing": (lambda: cv.Function(torch.exp), "there are no CVs that it is a function of"),
    "a function of a number": (lambda: cv.Function(torch.exp, 1.0), "part = 1.0 must be a collective variable"),
    "no function": (lambda: cv.Function("exp", X), "function = 'exp' must be a function"),
    "a CV as the function": (lambda: cv.Function(X, Y), "function = .* must be a function; give it before its CVs"),
    "a function without a name": (lambda: cv.Function(lambda x: x, X), "has no name of its own; give name="),
    "a period of 0": (lambda: cv.Function(torch.sin, X, period=0), "period = 0 must be a finite number above 0"),
    "a path as a name": (lambda: simulation((X - Y).named("a/b")), "name 'a/b' cannot be stored"),
    "too long a name": (lambda: simulation(sum([X] * 20, Y)), "cannot be stored; .* at most 200 letters"),
    "one name for two": (
        lambda: Simulation(
            plane(), Langevin(0.01, 1.0),
            bias=[Umbrella((X - Y).named("d"), 0.0, 1.0), Wall((Y - X).named("d"), upper=1.0)],
        ),
        r"two different collective variables are called 'd'; give one of them another name \(left.index: 0 -> 1\)",
    ),
    "another shape": (
        lambda: simulation(cv.Function(lambda x: x[:, None], X, name="f")),
        r"'f' gives a tensor of shape \(3, 1\), but one number for each of 3 walkers is needed",
    ),
    "a mean": (lambda: simulation(cv.Function(torch.mean, X)), r"'mean_of_parameter_0' gives a tensor of shape \(\)"),
    "no tensor": (lambda: simulation(cv.Function(lambda x: 1.0, X, name="f")), "'f' gives 1.0 of type float"),
    "no numbers": (lambda: simulation(cv.Function(torch.isnan, X)), "gives numbers of type torch.bool"),
    "a part of another shape": (
        lambda: simulation(1 + cv.Energy(lambda q: q, name="all")),
        r"the CV '1_plus_all': its part 'all' has shape \(3, 2\), but one number for each of 3 walkers",
    ),
    "a function that fails": (
        lambda: simulation(cv.Function(lambda x: x.nothing, X, name="f")), "the CV 'f' fails: AttributeError: .*repair"
    ),
    "a function that detaches": (
        lambda: simulation(cv.Function(lambda x: x.detach() ** 2, X, name="f")), "'f' .*does not depend on the pos"
    ),
    "a function that detaches one part": (
        lambda: simulation(cv.Function(lambda x, y: x.detach() * y, X, Y, name="f")),
        "the gradient of the CV 'f' is not its derivative",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input(name):
    make, said = REFUSED[name]
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("combined", [1 / (X - X), cv.Function(torch.log, X - X)])
def test_what_is_not_finite_at_the_start_is_told(combined):
    name = re.escape(repr(combined.name))
    with pytest.raises(DivergedError, match=rf"step 0: the CV {name} of walker 0 is -?inf at the start"):
        simulation(combined)


def test_moves_to_where_a_quotient_is_infinite_are_rejected():
    """Half of a lattice of two points has y = 0."""
    system = AnalyticSystem(2, box=nnsim.Lattice([0.0, 1.0]), start=torch.ones(2))
    bias = WangLandau(X / Y, Grid(-0.5, 1.5, 2, kind="bins"), FlatnessHalving(0.1))
    run = Simulation(system, MonteCarlo(), bias=bias, walkers=4).advance(200)
    assert bool((run.state.positions[:, 1] == 1).all())
    assert bool((bias.visits > 50).all())


# ---------------------------------------------------------------------- runs


def half(x):
    return x / 2


def built(combined, kind="wang_landau", walkers=3):
    grid = Grid(-2.0, 3.0, 50)
    biases = {
        "wang_landau": lambda: WangLandau(combined, grid, FlatnessHalving(0.1, check_every=20), kernel=0.2),
        "metadynamics": lambda: Metadynamics(combined, grid, height=0.1, sigma=0.2, pace=3, bias_factor=8.0),
    }
    return Simulation(
        network(), Langevin(0.01, 1.0), bias=[biases[kind](), Wall(combined, lower=-1.5, upper=2.5)],
        observe=[LN_TRAIN, (combined**2).named("square")], walkers=walkers, seed=3, every=5, checkpoint_every=20,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["wang_landau", "metadynamics"])
@pytest.mark.parametrize("combined", [GAP, cv.Function(half, GAP) * 2], ids=["native", "reference"])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(tmp_path, kind, combined):
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    one = built(combined, kind).run(60, output=whole, progress=False)
    built(combined, kind).run(33, output=parts, progress=False)
    other = built(combined, kind).run(60, output=parts, resume=True, progress=False)
    assert one.platform.name == ("native" if combined is GAP else "reference")
    assert torch.equal(one.state.positions, other.state.positions)
    assert torch.equal(one.force_field.biases[0].potential, other.force_field.biases[0].potential)
    for name in (combined.name, "square", "ln_loss_train"):
        assert np.array_equal(Trajectory(whole)[name][:], Trajectory(parts)[name][:])
    assert np.allclose(Trajectory(whole)["square"][:], Trajectory(whole)[combined.name][:] ** 2, rtol=1e-6)


def test_a_landscape_along_a_difference(tmp_path):
    built(GAP).run(60, output=tmp_path / "run.zarr", progress=False)
    landscape = EntropyLandscape.from_trajectory(tmp_path / "run.zarr")
    assert landscape.names == (GAP.name,)
    assert math.isfinite(landscape.at(**{GAP.name: float(Trajectory(tmp_path / "run.zarr")[GAP.name][-1].mean())}))


def scaled(factor):
    return lambda x: factor * x


CHANGED = {
    "an operand": (GAP.named("s"), (LN_TEST - cv.LogLoss("test")).named("s"), r"right.split: train -> test"),
    "a number": ((2 * GAP).named("s"), (3 * GAP).named("s"), r"left: 2.0 -> 3.0"),
    "an operation": ((GAP + 1).named("s"), (GAP - 1).named("s"), r"word: plus -> minus"),
    "what a function takes from around it": (
        cv.Function(scaled(2.0), GAP, name="s"), cv.Function(scaled(3.0), GAP, name="s"), r"factor: 2.0 -> 3.0"
    ),
    "the code of a function": (
        cv.Function(lambda x: x + 1, GAP, name="s"), cv.Function(lambda x: x + 2, GAP, name="s"), r"x \+ 1 -> .*x \+ 2"
    ),
    "a function deep inside": (
        (1 - cv.Function(half, GAP, name="f")).named("s"), (1 - cv.Function(torch.exp, GAP, name="f")).named("s"),
        r"right.function",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_resume_with_another_cv_is_refused(tmp_path, name):
    one, other, said = CHANGED[name]
    built(one).run(10, output=tmp_path / "run.zarr", progress=False)
    built(one).run(20, output=tmp_path / "run.zarr", resume=True, progress=False)
    with pytest.raises(InputError, match=said):
        built(other).run(30, output=tmp_path / "run.zarr", resume=True, progress=False)
