"""Biases by themselves: Wang-Landau's books, walls, and the defaults an own bias inherits."""

import copy

import numpy as np
import pytest
import torch

from nnsim import Bias, Box, Evaluation, Grid, InputError, Simulation, cv
from nnsim.bias import Boltzmann, Metadynamics, Umbrella, Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import FlatnessHalving, InverseTime, RampHoldInverseTime
from nnsim.systems import AnalyticSystem, LossPotential, spiral_classification

X, Y = cv.Parameter(0), cv.Parameter(1)
CONSTANT = InverseTime(0.5, scale=1e12)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def points(number, low=-1.2, high=1.2, k=2, seed=0):
    return torch.tensor(np.random.default_rng(seed).uniform(low, high, (number, k)))


def test_deposits_are_counted_and_weigh_kT_times_the_increment():
    bias = WangLandau(X, Grid(-1.0, 1.0, 20), CONSTANT, kT=3.0, kernel=0.1)
    bias.update(column(0.0, 0.5, -0.99, 1.5, -2.0), step=1)
    assert (bias.deposits, bias.outside) == (3, 2)
    assert bias.visits.sum() == 3
    assert bias.visits[[0, 10, 15]].tolist() == [1, 1, 1]
    assert float(bias.potential.sum()) == pytest.approx(3 * 3.0 * 0.5, rel=1e-14)
    assert bias.observables() == {"increment": 0.5, "outside": 0.4}


def test_all_walkers_of_an_update_share_one_increment_and_advance_the_clock_by_their_number():
    bias = WangLandau(X, Grid(-1.0, 1.0, 4), RampHoldInverseTime(1.0, ramp=0, hold=4))
    bias.update(column(0.1, 0.2, 0.3, 0.4), step=1)
    assert float(bias.potential.sum()) == 4.0
    bias.update(column(0.1, 0.2, 0.3, 0.4), step=2)  # f(4) = 1
    assert float(bias.potential.sum()) == 8.0
    assert bias.increment == 0.5  # f(8)
    bias.update(column(0.1, 5.0, 5.0, 5.0), step=3)
    assert (bias.deposits, bias.outside) == (9, 3)
    assert float(bias.potential.sum()) == 8.5


def test_mask_chooses_the_walkers():
    bias = WangLandau(X, Grid(-1.0, 1.0, 4), CONSTANT)
    bias.update(column(0.1, -0.9, 3.0, 3.0), step=1, mask=torch.tensor([True, False, True, False]))
    assert (bias.deposits, bias.outside) == (1, 1)
    assert bias.visits.tolist() == [0, 0, 1, 0]


def test_nothing_is_deposited_outside_and_nan_counts_as_outside():
    bias = WangLandau(X, Grid(-1.0, 1.0, 4), CONSTANT)
    bias.update(column(5.0, float("nan")), step=1)
    assert (bias.deposits, bias.outside) == (0, 2)
    assert bias.potential.abs().sum() == 0


def test_frozen_does_not_learn():
    bias = WangLandau(X, Grid(-1.0, 1.0, 4), CONSTANT)
    bias.update(column(0.1), step=1)
    before = copy.deepcopy(bias.state_dict())
    bias.frozen = True
    bias.update(column(0.1, 7.0), step=2)
    assert torch.equal(bias.potential, before["potential"])
    assert torch.equal(bias.visits, before["visits"])
    assert (bias.deposits, bias.outside) == (1, 0)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_is_saved(frozen):
    source, target = (WangLandau(X, Grid(-1.0, 1.5, 5), CONSTANT) for _ in range(2))
    source.frozen, target.frozen = frozen, not frozen
    target.load_state_dict(source.state_dict())
    assert target.frozen is frozen


@pytest.mark.parametrize(("kind", "differentiable"), [("spline", True), ("bins", False)])
def test_only_splines_exert_forces(kind, differentiable):
    assert WangLandau(X, Grid(-1.0, 1.5, 5, kind=kind), CONSTANT).differentiable is differentiable


@pytest.mark.parametrize("make", [cv.LogLoss, cv.Loss, cv.Accuracy, cv.SmoothedAccuracy])
def test_cvs_of_data_need_data(make):
    evaluation = Evaluation(AnalyticSystem(1), torch.zeros(2, 1))
    with pytest.raises(InputError, match=r"AnalyticSystem has no data, .*LogLoss, Accuracy.* need a system with data"):
        make("train")(evaluation)


def test_energy_and_gradient_are_those_of_the_grid():
    bias = WangLandau((X, Y), Grid((-1.0, -1.0), (1.0, 1.0), (8, 10)), CONSTANT, kernel=(0.2, 0.2))
    bias.update(points(300), step=1)
    s = points(50, seed=1)
    value, gradient = bias.energy_and_gradient(s, 1)
    assert torch.equal(bias.energy(s, 1), value)
    assert torch.equal(bias.gradient(s, 1), gradient)
    np.testing.assert_array_equal(value, bias.grid.evaluate(bias.potential, s)[0])
    assert gradient.abs().max() > 1


def test_a_deposit_repels():
    """V has a maximum where a walker sat, and pushes away on both sides."""
    bias = WangLandau(X, Grid(-1.0, 1.0, 21), CONSTANT, kernel=0.15)
    bias.update(column(0.0), step=1)
    gradient = bias.gradient(column(-0.1, 0.0, 0.1), 1)[:, 0]
    assert gradient[0] > 0.1
    assert abs(gradient[1]) < 1e-14
    assert gradient[2] < -0.1


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: RampHoldInverseTime(0.3, ramp=100, hold=500, offset=200),
        lambda: FlatnessHalving(0.3, flatness=0.2, check_every=50),
    ],
)
def test_state_dict_round_trip_is_bitwise(schedule):
    def make():
        return WangLandau((X, Y), Grid((-1.0, -1.0), (1.0, 1.0), (4, 5)), schedule(), kernel=(0.2, 0.15))

    whole, first = make(), make()
    for step in range(40):
        whole.update(points(32, seed=step), step)
        if step < 20:
            first.update(points(32, seed=step), step)
    second = make()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(20, 40):
        second.update(points(32, seed=step), step)
    assert torch.equal(second.potential, whole.potential)
    assert torch.equal(second.visits, whole.visits)
    assert (second.deposits, second.outside, second.increment) == (whole.deposits, whole.outside, whole.increment)
    assert whole.increment < 0.3  # the schedule was at work


def test_a_loaded_bias_does_not_share_memory_with_its_source():
    source, copied = (WangLandau(X, Grid(-1.0, 1.0, 4), CONSTANT) for _ in range(2))
    source.update(column(0.1), step=1)
    copied.load_state_dict(source.state_dict())
    copied.update(column(0.1), step=2)
    assert float(source.potential.sum()) == 0.5
    assert source.visits.sum() == 1
    assert float(copied.potential.sum()) == 1.0


def test_start_outside_is_refused_with_values_and_limits():
    system = AnalyticSystem(2, box=Box(9.0), start=torch.tensor([[3.0, 0.5], [4.25, 0.5]]))
    bias = WangLandau((X, Y), Grid((-1.0, 0.0), (1.5, 2.0), (5, 5)), CONSTANT)
    first = r"parameter_0 from 3 to 4.25, grid -1 to 1.5"
    message = rf"all 2 walkers start outside .*{first}.*parameter_1 from 0.5 to 0.5, grid 0 to 2"
    with pytest.raises(InputError, match=message):
        Simulation(system, Langevin(0.1, 1.0), bias=bias, walkers=2)


def test_start_with_one_walker_inside_is_accepted():
    system = AnalyticSystem(1, box=Box(9.0), start=torch.tensor([[3.0], [0.5]]))
    Simulation(system, Langevin(0.1, 1.0), bias=WangLandau(X, Grid(-1.0, 1.5, 5), CONSTANT), walkers=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WangLandau((X, Y), Grid(0.0, 1.0, 5), CONSTANT), r"2 CVs on a grid of 1 dimensions"),
        (lambda: WangLandau(X, Grid(0.0, 1.0, 5), CONSTANT, kT=0.0), r"kT = 0 must be a finite number above 0"),
        (lambda: WangLandau(X, Grid(0.0, 1.0, 5), CONSTANT, kT=-1.0), r"kT = -1"),
        (lambda: WangLandau(X, Grid(0.0, 1.0, 5), CONSTANT, kT=float("inf")), r"kT = inf"),
        (lambda: WangLandau(X, Grid(0.0, 1.0, 5), CONSTANT, kernel=0.5), r"more than the grid's 5"),
        (lambda: WangLandau(X, "grid", CONSTANT), r"grid = 'grid' must be a grid; give nnsim.Grid"),
        (
            lambda: WangLandau(X, Grid(0.0, 1.0, 5), 0.5),
            r"schedule = 0.5 must be a schedule, .*InverseTime\(maximum, scale\)",
        ),
        (lambda: WangLandau(X, Grid(0.0, 1.0, 5), "fast"), r"schedule = 'fast' must be"),
        (lambda: WangLandau(X, Grid(0.0, 1.0, 5), InverseTime), r"schedule = <class .*InverseTime'> must be"),
        (lambda: WangLandau("ln_loss_train", Grid(0.0, 1.0, 5), CONSTANT), r"cvs = 'ln_loss_train' must be a coll"),
        (lambda: WangLandau(["a", "b"], Grid((0, 0), (1, 1), 5), CONSTANT), r"cvs = 'a' must be a collective variable"),
        (lambda: WangLandau(cv.LogLoss, Grid(0.0, 1.0, 5), CONSTANT), r"cvs = <class .*LogLoss'> must be"),
        (lambda: Wall("ln_loss_train", upper=1.0), r"Wall: cv = 'ln_loss_train' must be .* such as nnsim.cv.LogLoss"),
        (lambda: Wall(X), r"give upper, lower, or both"),
        (lambda: Wall(X, lower=1.0, upper=0.0), r"lower = 1 must be below upper = 0"),
        (lambda: Wall(X, upper=float("nan")), r"upper = nan"),
        (lambda: Wall(X, upper=1.0, strength=0.0), r"strength = 0"),
        (lambda: Wall(X, upper=1.0, shape="cubic"), r"choose one of 'quadratic', 'linear'"),
    ],
)
def test_bad_biases_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_kT_of_bias_and_integrator_must_agree():
    bias = WangLandau(X, Grid(-1.0, 1.5, 5), CONSTANT, kT=2.0)
    with pytest.raises(InputError, match=r"'wang_landau' has kT = 2 but Langevin has kT = 1; make them equal"):
        Simulation(AnalyticSystem(1, start=0.0), Langevin(0.1, 1.0), bias=bias)


# ---------------------------------------------------------------- walls


@pytest.mark.parametrize("sides", [{"upper": 1.0}, {"lower": -0.5}, {"lower": -0.5, "upper": 1.0}])
@pytest.mark.parametrize("shape", ["quadratic", "linear"])
def test_wall_energy_and_gradient(sides, shape):
    wall = Wall(X, strength=7.0, shape=shape, **sides)
    s = column(*np.linspace(-2, 2, 41) + 0.0123)
    x = s[:, 0].numpy()
    beyond = np.maximum(x - sides.get("upper", np.inf), 0) + np.maximum(sides.get("lower", -np.inf) - x, 0)
    np.testing.assert_allclose(wall.energy(s, 0), 3.5 * beyond**2 if shape == "quadratic" else 7.0 * beyond, rtol=1e-13)
    difference = (wall.energy(s + 1e-6, 0) - wall.energy(s - 1e-6, 0)) / 2e-6
    gradient = wall.gradient(s, 0)
    assert gradient.shape == s.shape
    np.testing.assert_allclose(gradient[:, 0], difference, atol=1e-7)
    np.testing.assert_allclose(Bias.gradient(wall, s, 0), gradient, atol=1e-13)  # by automatic differentiation


def test_wall_names():
    assert Wall(X, upper=1.0).name == "wall_upper_parameter_0"
    assert Wall(X, lower=0.0, upper=1.0).name == "wall_lower_upper_parameter_0"
    assert Wall(X, upper=1.0, name="mine").name == "mine"


# ---------------------------------------------------------------- an own bias


class Spring(Bias):
    """The least an own bias needs: a name, its CVs and an energy."""

    name = "spring"
    cvs = (X, Y)

    def energy(self, s, step):
        return 2.0 * s[:, 0] ** 2 * s[:, 1] + step


def test_gradient_of_a_minimal_bias_is_automatic():
    s = points(20)
    value, gradient = Spring().energy_and_gradient(s, 3)
    np.testing.assert_allclose(value, 2 * s[:, 0] ** 2 * s[:, 1] + 3)
    np.testing.assert_allclose(gradient, torch.stack((4 * s[:, 0] * s[:, 1], 2 * s[:, 0] ** 2), dim=1), rtol=1e-14)
    with torch.no_grad():
        assert torch.equal(Spring().gradient(s, 3), gradient)
    assert not gradient.requires_grad


def test_a_minimal_bias_drives_a_simulation():
    simulation = Simulation(AnalyticSystem(2, start=0.5), Langevin(0.1, 1.0), bias=Spring(), walkers=3)
    q = simulation.state.positions
    expected = -torch.stack((4 * q[:, 0] * q[:, 1], 2 * q[:, 0] ** 2), dim=1)
    np.testing.assert_allclose(simulation.state.forces, expected, rtol=1e-13)
    assert simulation.advance(5).state.step == 5
    assert simulation.state_dict()["bias"] == {"spring": {}}


def test_a_bias_without_dependence_has_no_gradient():
    class Constant(Spring):
        def energy(self, s, step):
            return torch.ones(len(s), dtype=torch.float64)

    assert torch.equal(Constant().gradient(points(4), 0), torch.zeros(4, 2, dtype=torch.float64))


def test_biases_of_every_kind_on_the_same_and_on_other_cvs_add_up():
    """Energy and forces against central differences of U + sum of V, each V by itself; 22 parameters."""
    system = spiral_classification(hidden=(4,), box=Box(3.0), potential=LossPotential(2.0))
    loss, accuracy, first = cv.LogLoss("train"), cv.SmoothedAccuracy("test", slope=5.0), cv.Parameter(0)
    filled = Metadynamics([loss, accuracy], Grid((-3, -0.2), (4, 1.2), bins=70), 0.7, (0.3, 0.1), 1, name="hills")
    grown = WangLandau(loss, Grid(-3, 4, bins=70), InverseTime(0.5, 1e6), kernel=0.2)
    tempered = Metadynamics(loss, Grid(-3, 4, bins=70), 0.5, 0.3, 1, bias_factor=5.0, name="tempered")
    biases = [
        filled, grown, tempered, Umbrella([loss, first], (0.5, 0.1), (3.0, 2.0)), Wall(loss, upper=0.0, strength=5.0),
        Wall(loss, lower=2.0, strength=5.0), Boltzmann(cv.Loss("train"), [1.0, 2.0, 3.0]),
    ]  # fmt: skip
    simulation = Simulation(system, Langevin(0.01, 1.0), bias=biases, walkers=3, seed=3, precision="double")
    simulation.advance(20)
    force_field, state = simulation.force_field, simulation.state
    for one in (filled, grown, tempered):
        one.frozen = True
        assert float(one.potential.max()) > 0.5
    found = force_field(state.positions, state.step)

    def total(positions: torch.Tensor) -> torch.Tensor:
        energy, bias_energy, _ = force_field.energies(positions, state.step)
        evaluation = force_field.evaluate(positions)
        each = [one.energy(torch.stack([c(evaluation) for c in one.cvs], 1).double(), state.step) for one in biases]
        torch.testing.assert_close(bias_energy, sum(each))
        return energy + bias_energy

    for column in range(0, 22, 5):
        shift = torch.zeros_like(state.positions)
        shift[:, column] = 1e-5
        slope = (total(state.positions + shift) - total(state.positions - shift)) / 2e-5
        torch.testing.assert_close(found.forces[:, column], -slope, rtol=1e-5, atol=1e-5)
