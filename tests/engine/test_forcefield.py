"""Forces: the exact gradient of every part together, from one forward pass."""

import numpy as np
import pytest
import torch
from torch import nn

from nnsim import Bias, Box, CollectiveVariable, Evaluation, ForceField, Grid, InputError, Simulation, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.precision import Precision
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, DoubleWell, GaussianPrior, Harmonic, LossPotential, NeuralNetwork
from nnsim.systems.modules import mlp

LOSS, ACCURACY, TEST_LOSS = cv.LogLoss("train"), cv.SmoothedAccuracy("test"), cv.LogLoss("test")


def data(number, seed):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(number, 2))), torch.tensor(rng.integers(0, 3, number))


def network(potential=None, precision="double"):
    torch.manual_seed(0)
    system = NeuralNetwork(
        mlp((2, 5, 4, 3), "tanh"), data(12, 0), data(9, 1), potential=potential, box=Box(3.0), initial="uniform"
    )
    system.prepare(Precision.named(precision), torch.device("cpu"))
    return system


def start(system, walkers=4, seed=3):
    return system.initial_positions(walkers, torch.Generator().manual_seed(seed))


def wang_landau(cvs, seed=0, name="wang_landau", lower=(-4.0, -0.5), upper=(3.0, 1.5)):
    """A frozen bias with a rough random potential."""
    bias = WangLandau(cvs, Grid(lower, upper, (14, 10)), InverseTime(1.0, 100.0), kernel=None, name=name)
    bias.potential = torch.tensor(np.random.default_rng(seed).normal(0, 3, bias.grid.shape))
    bias.frozen = True
    return bias


def total(field, positions):
    energy, bias_energy, _ = field.energies(positions, 0)
    return energy + bias_energy


def differences(field, positions, step=1e-5):
    forces = torch.empty_like(positions)
    for i in range(positions.shape[1]):
        shift = torch.zeros_like(positions)
        shift[:, i] = step
        forces[:, i] = -(total(field, positions + shift) - total(field, positions - shift)) / (2 * step)
    return forces


class CountingForward:
    """Wraps a system's way to evaluate walkers and counts the calls."""

    def __init__(self, system):
        self.inner, self.calls, self.points = system._forward, 0, 0
        system._forward = self

    def __call__(self, positions, x):
        self.calls += 1
        self.points += len(x)
        return self.inner(positions, x)


def test_forces_are_the_gradient_of_all_parts_together():
    system = network(LossPotential(30.0) + GaussianPrior(0.7))
    biases = (wang_landau((LOSS, ACCURACY)), Wall(LOSS, upper=-0.5, lower=-2.0, strength=20.0))
    field, positions = ForceField(system, biases), start(system)
    result = field(positions, 0)
    assert result.forces.abs().max() > 5
    assert (biases[1].energy(result.cvs[:, :1], 0) > 0).any()  # the wall is at work
    np.testing.assert_allclose(result.forces, differences(field, positions), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "biases",
    [
        lambda: (),
        lambda: (wang_landau((LOSS, ACCURACY)),),
        lambda: (Wall(cv.WeightNorm(), upper=1.0, strength=5.0),),
        lambda: (Wall(cv.Distance(0.3), upper=1.0, strength=5.0), Wall(TEST_LOSS, lower=2.0, strength=3.0)),
        lambda: (Wall(cv.SmoothedAccuracy("train", coordinate="logit", scale=2.0), upper=-5.0, strength=1.0),),
        lambda: (Wall(cv.Loss("test"), upper=0.0, strength=1.0, shape="linear"),),
        lambda: (Wall(cv.Parameter(3), upper=-3.0, strength=4.0),),
    ],
)
@pytest.mark.parametrize("potential", [None, LossPotential(5.0), GaussianPrior(0.5)])
def test_forces_of_each_part(biases, potential):
    system = network(potential)
    field, positions = ForceField(system, biases()), start(system)
    forces = field(positions, 0).forces
    assert (forces.abs().max() > 0.01) == bool(potential or field.biases)
    np.testing.assert_allclose(forces, differences(field, positions), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("potential", [Harmonic(2.0), DoubleWell(3.0, 1.5, 0.7)])
def test_forces_of_analytic_systems(potential):
    system = AnalyticSystem(5, potential, box=Box(2.0))
    field, positions = ForceField(system, (Wall(cv.LogEnergy(Harmonic()), upper=0.0, strength=9.0),)), start(system)
    np.testing.assert_allclose(field(positions, 0).forces, differences(field, positions), rtol=1e-6, atol=1e-7)


def test_energies_equals_call():
    system = network(LossPotential(30.0))
    field, positions = ForceField(system, (wang_landau((LOSS, ACCURACY)), Wall(LOSS, upper=-0.5))), start(system)
    result = field(positions, 0)
    for one, other in zip(field.energies(positions, 0), (result.energy, result.bias_energy, result.cvs), strict=True):
        assert one.dtype == torch.float64
        assert not one.requires_grad
        np.testing.assert_allclose(one, other, rtol=1e-14)
    assert result.cvs.shape == (4, 2)
    assert not result.forces.requires_grad


def test_joint_equals_the_sum_of_separate_force_fields():
    system = network(LossPotential(30.0))
    biases = (wang_landau((LOSS, ACCURACY)), Wall(LOSS, upper=-0.5), Wall(cv.WeightNorm(), upper=3.0))
    positions = start(system)
    joint, alone = ForceField(system, biases)(positions, 0), ForceField(system)(positions, 0)
    forces, energy = alone.forces.clone(), 0
    for bias in biases:
        one = ForceField(system, (bias,))(positions, 0)
        forces += one.forces - alone.forces
        energy = energy + one.bias_energy
    np.testing.assert_allclose(joint.forces, forces, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(joint.bias_energy, energy, rtol=1e-13)


def test_walkers_do_not_feel_each_other():
    system = network(LossPotential(30.0))
    field, positions = ForceField(system, (wang_landau((LOSS, ACCURACY)),)), start(system)
    together = field(positions, 0).forces
    for w in range(len(positions)):
        np.testing.assert_allclose(field(positions[w : w + 1], 0).forces[0], together[w], rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- cost


def test_two_cvs_on_one_split_and_the_potential_cost_one_forward_pass():
    system = network(LossPotential(30.0))
    train_accuracy = cv.SmoothedAccuracy("train")
    field, positions = (
        ForceField(system, (wang_landau((LOSS, train_accuracy)), Wall(cv.Loss("train"), upper=1.0))),
        start(system),
    )
    field.probe(positions)
    counter = CountingForward(system)
    field(positions, 0)
    assert (counter.calls, counter.points) == (1, 12)  # the test points are not evaluated


def test_two_splits_cost_one_joint_pass_and_give_the_same():
    system = network(LossPotential(30.0))
    field, positions = ForceField(system, (wang_landau((LOSS, ACCURACY)),)), start(system)
    separate = field(positions, 0)
    field.probe(positions)
    counter = CountingForward(system)
    joint = field(positions, 0)
    assert (counter.calls, counter.points) == (1, 21)
    for one, other in zip(joint, separate, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_a_simulation_step_costs_one_forward_pass():
    system = network(LossPotential(1.0))
    simulation = Simulation(
        system, Langevin(1e-3, 1.0), bias=wang_landau((LOSS, ACCURACY)), walkers=4, precision="double",
        platform="reference",
    )  # fmt: skip
    counter = CountingForward(simulation.system)
    simulation.advance(10)
    assert counter.calls == 10


# ---------------------------------------------------------------- columns and names


def test_one_cv_in_two_biases_is_one_column():
    system = network()
    biases = (Wall(TEST_LOSS, upper=0.0), wang_landau((cv.LogLoss("train"), cv.LogLoss("test"))), Wall(LOSS, upper=1.0))
    field, positions = ForceField(system, biases), start(system)
    assert [one.name for one in field.cvs] == ["ln_loss_test", "ln_loss_train"]
    result = field(positions, 0)
    evaluation = Evaluation(system, positions)
    np.testing.assert_allclose(result.cvs, torch.stack((TEST_LOSS(evaluation), LOSS(evaluation)), 1), rtol=1e-13)
    # each bias gets its own columns in its own order
    expected = sum(b.energy(torch.stack([c(evaluation) for c in b.cvs], 1), 0) for b in biases)
    np.testing.assert_allclose(result.bias_energy, expected, rtol=1e-12)
    np.testing.assert_allclose(result.forces, differences(field, positions), rtol=1e-6, atol=1e-7)


def test_updates_and_starts_go_to_the_right_columns():
    seen = []

    class Spy(Bias):
        def __init__(self, name, *cvs):
            self.name, self.cvs = name, cvs

        def energy(self, s, step):
            return s.sum(1)

        def update(self, s, step, mask=None):
            seen.append((self.name, step, s.tolist()))

    x, y, z = (cv.Parameter(i) for i in range(3))
    field = ForceField(AnalyticSystem(3), (Spy("a", y, x), Spy("b", z, y)))
    field.update_biases(torch.tensor([[1.0, 2.0, 3.0]]), 7)
    assert [one.name for one in field.cvs] == ["parameter_1", "parameter_0", "parameter_2"]
    assert seen == [("a", 7, [[1.0, 2.0]]), ("b", 7, [[3.0, 1.0]])]


def test_two_different_cvs_of_one_name_are_refused():
    biases = (
        Wall(cv.Energy(Harmonic(1.0)), upper=1.0, name="one"),
        Wall(cv.Energy(Harmonic(2.0)), upper=1.0, name="two"),
    )
    with pytest.raises(InputError, match=r"two different collective variables are called 'energy'; give one"):
        ForceField(AnalyticSystem(3), biases)


def test_two_biases_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"two different biases are called 'wall_upper_ln_loss_train'"):
        ForceField(network(), (Wall(LOSS, upper=1.0), Wall(LOSS, upper=2.0)))


def test_a_cv_of_the_wrong_shape_is_refused():
    class Positions(CollectiveVariable):
        name = "everything"

        def __call__(self, evaluation):
            return evaluation.positions

    field = ForceField(AnalyticSystem(3, box=Box(1.0)), (Wall(Positions(), upper=1.0),))
    with pytest.raises(InputError, match=r"CV 'everything' has shape \(2, 3\), but one number for each of 2 walkers"):
        field.probe(torch.zeros(2, 3, dtype=torch.float64))


def test_a_cv_without_gradient_is_refused_under_a_dynamics():
    bias = Wall(cv.Accuracy("test"), upper=0.5)
    with pytest.raises(InputError, match=r"'accuracy_test' .* has no gradient; use a smooth CV"):
        Simulation(network(), Langevin(0.1, 1.0), bias=bias)


@pytest.mark.parametrize("precision", ["single", "mixed", "double"])
def test_precision_of_what_comes_back(precision):
    system, mode = network(LossPotential(3.0), precision), Precision.named(precision)
    field = ForceField(system, (wang_landau((LOSS, ACCURACY)),))
    positions = start(system).to(mode.state)
    result = field(positions, 0)
    assert result.forces.dtype == mode.state
    assert {result.energy.dtype, result.bias_energy.dtype, result.cvs.dtype} == {torch.float64}
    exact = ForceField(network(LossPotential(3.0)), field.biases)(positions.double(), 0)
    tolerance = 1e-12 if precision == "double" else 2e-4
    np.testing.assert_allclose(result.forces, exact.forces, rtol=tolerance, atol=tolerance)


def test_positions_are_left_alone():
    system = network(LossPotential(3.0))
    positions = start(system)
    before = positions.clone()
    ForceField(system, (wang_landau((LOSS, ACCURACY)),))(positions, 0)
    assert torch.equal(positions, before)
    assert not positions.requires_grad


def test_free_particles_have_no_forces():
    result = ForceField(AnalyticSystem(3))(torch.ones(2, 3, dtype=torch.float64), 0)
    assert result.cvs.shape == (2, 0)
    assert float(result.forces.abs().sum() + result.energy.abs().sum() + result.bias_energy.abs().sum()) == 0


def test_a_module_with_parts_that_do_not_matter_has_zero_force_on_them():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 3), nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.used(x)

    system = NeuralNetwork(Partly(), data(12, 0), potential=LossPotential(1.0))
    forces = ForceField(system)(system.initial_positions(2, torch.Generator()), 0).forces
    names = list(system.parameters)
    assert forces.shape == (2, 13)
    assert (forces.split([int(np.prod(s)) for s in system.parameters.values()], 1)[names.index("unused")] == 0).all()
    assert forces.abs().sum() > 0


def test_a_bias_that_uses_one_cv_twice_gets_the_whole_force():
    class Twice(Bias):
        name = "twice"
        cvs = (cv.Parameter(0), cv.Parameter(0))

        def energy(self, s, step):
            return s[:, 0] + s[:, 1]

    forces = ForceField(AnalyticSystem(2), (Twice(),))(torch.ones(1, 2, dtype=torch.float64), 0).forces
    assert forces.tolist() == [[-2.0, 0.0]]


def test_a_potential_with_a_constant_gradient():
    """Its gradient is an expanded tensor, which must not be changed in place."""
    system = AnalyticSystem(3, lambda q: 2 * q.sum(-1), box=Box(1.0))
    forces = ForceField(system)(torch.zeros(2, 3, dtype=torch.float64), 0).forces
    assert torch.equal(forces, torch.full((2, 3), -2.0, dtype=torch.float64))
