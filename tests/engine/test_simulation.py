"""What a simulation checks when it is made, and what it keeps."""

import pytest
import torch

from nnsim import Box, CollectiveVariable, DivergedError, Grid, InputError, Integrator, Observable, Simulation, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin, MonteCarlo, VelocityVerlet
from nnsim.running.monitor import MOST_SAMPLES, Monitor
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification


def free(n: int = 3) -> AnalyticSystem:
    return AnalyticSystem(n, box=Box(1.0))


class Count(CollectiveVariable):
    """A CV that says that it is differentiable, as is the default, but is not."""

    name = "positive"

    def __call__(self, evaluation):
        return (evaluation.positions > 0).double().mean(1)


def bias_on(variable: CollectiveVariable, kind: str = "spline", upper: float = 1.5) -> WangLandau:
    return WangLandau(variable, Grid(-0.5, upper, bins=20, kind=kind), InverseTime(0.1, 100))


def test_a_bias_without_forces_is_refused_under_a_dynamics_but_not_under_monte_carlo():
    with pytest.raises(InputError, match=r"the CV 'positive' .* does not depend on the positions in a way torch can"):
        Simulation(free(), Langevin(0.01, 1.0), bias=bias_on(Count()))
    with pytest.raises(InputError, match="it is constant in each bin; use Grid"):
        Simulation(free(), VelocityVerlet(0.01), bias=bias_on(cv.WeightNorm(), kind="bins", upper=2.0))
    for variable, kind in ((Count(), "bins"), (cv.WeightNorm(), "bins")):
        Simulation(free(), MonteCarlo(0.1), bias=bias_on(variable, kind, 2.0)).advance(5)


def test_observables_that_cannot_work_are_refused_before_the_run():
    class Broken(Observable):
        name = "broken"

        def observe(self, state, evaluation):
            raise ZeroDivisionError("no walkers")

    class Flat(Observable):
        name = "flat"

        def observe(self, state, evaluation):
            return torch.zeros(7)

    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    without_test = spiral_classification(train=(x, y))
    for system, thing, message in (
        (free(), Broken(), "observable 'broken' fails: ZeroDivisionError: no walkers"),
        (free(), Flat(), r"observable 'flat' has shape \(7,\); it must begin with the number of walkers, 3"),
        (without_test, cv.Accuracy("test"), "there is no 'test' split"),
        (free(), 5, "5 is no observable"),
    ):
        with pytest.raises(InputError, match=message):
            Simulation(system, Langevin(0.01, 1.0), walkers=3, observe=[thing])


@pytest.mark.parametrize("name", ["a/b", "../../evil", ""])
def test_names_that_are_no_file_names_are_refused(name):
    for parts in ({"bias": bias_on(cv.Energy(Harmonic(), name=name))}, {"observe": [cv.Energy(Harmonic(), name=name)]}):
        with pytest.raises(InputError, match="name"):
            Simulation(free(), Langevin(0.01, 1.0), **parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bias": "x"}, "'x' is no bias"),
        ({"bias": cv.WeightNorm()}, "is no bias"),
        ({"integrator": Langevin}, "the class Langevin is no integrator"),
        ({"system": 5}, "5 is no system"),
        ({"reporters": [3]}, "3 is no reporter"),
        ({"seed": 2**64}, "seed = 18446744073709551616 must be below"),
        ({"device": None}, "device = None is not there"),
        ({"device": "meta"}, "device = 'meta' is not there"),
        ({"device": "cuda"} if not torch.cuda.is_available() else {"device": "no"}, "is not there; on this machine"),
        ({"platform": "gpu"}, "platform = 'gpu' is not known"),
        ({"precision": "half"}, "precision = 'half' is not known"),
    ],
)
def test_wrong_parts_are_one_clear_line(arguments, message):
    given = {"system": free(), "integrator": Langevin(0.01, 1.0), **arguments}
    with pytest.raises(InputError, match=message) as caught:
        Simulation(given.pop("system"), given.pop("integrator"), **given)
    assert "\n" not in str(caught.value)


def test_none_and_single_parts_are_taken():
    simulation = Simulation(free(), Langevin(0.01, 1.0), bias=None, observe=cv.WeightNorm(), reporters=None, every=1)
    assert simulation.advance(2).history["weight_norm"].shape == (2, 1)
    simulation = Simulation(free(), Langevin(0.01, 1.0), observe=(cv.WeightNorm(), 2), every=1)
    assert simulation.advance(4).history["weight_norm"].shape == (2, 1)


def test_a_cv_of_a_bias_may_have_its_own_interval():
    norm = cv.WeightNorm()
    simulation = Simulation(free(), Langevin(0.01, 1.0), bias=bias_on(norm, upper=2.0), observe=[(norm, 5)], every=1)
    simulation.advance(10)
    assert simulation.history.steps("weight_norm").tolist() == [5, 10]


def test_one_system_serves_simulations_of_different_precision():
    system = spiral_classification()
    mixed = Simulation(system, Langevin(1e-3, 1.0), walkers=2, seed=1)
    alone = Simulation(spiral_classification(), Langevin(1e-3, 1.0), walkers=2, seed=1)
    Simulation(system, Langevin(1e-3, 1.0), walkers=2, precision="double")
    positions = mixed.state.positions
    for simulation in (mixed, alone):
        assert simulation.force_field.evaluate(positions).outputs("train").dtype == torch.float32
    assert torch.equal(mixed.system.box.lower, alone.system.box.lower)


class Forgetful(Integrator):
    """Forgets to count its steps, or spoils a velocity."""

    def __init__(self, spoil: bool) -> None:
        self.spoil = spoil
        self.own = VelocityVerlet(0.01)

    def init(self, positions, force_field, generator):
        return self.own.init(positions, force_field, generator)

    def step(self, state, force_field):
        state = self.own.step(state, force_field)
        if not self.spoil:
            state.step -= 1
        elif state.step == 10:
            state.velocities[1, 0] = float("nan")
        return state


def test_an_integrator_that_does_not_count_is_stopped():
    with pytest.raises(InputError, match=r"Forgetful: step\(\) took state.step from 0 to 0; it must add 1"):
        Simulation(free(), Forgetful(spoil=False)).advance(5)


def test_a_bad_velocity_is_found_at_once_so_that_no_checkpoint_holds_it(tmp_path):
    run = Simulation(free(), Forgetful(spoil=True), walkers=3, checkpoint_every=5)
    with pytest.raises(DivergedError, match=r"step 10: velocities of walker 1 .* checkpoint, of step 5, is kept"):
        run.run(20, output=tmp_path / "run.zarr", progress=False)


def test_a_start_that_is_not_finite_is_called_so():
    system = AnalyticSystem(1, lambda q: torch.log(q[:, 0]), start=-1.0)
    with pytest.raises(DivergedError, match="step 0: energy of walker 0 is NaN or infinite at the start"):
        Simulation(system, Langevin(0.01, 1.0))


def test_the_monitor_is_bounded_and_survives_a_resume():
    run = Simulation(free(), Langevin(0.01, 1.0), every=1)
    monitor = Monitor(1)
    for step in range(1, 3 * MOST_SAMPLES):
        run.state.step = step
        monitor.report(run)
    assert len(monitor.state_dict()["steps"]) <= MOST_SAMPLES
    other = Monitor(1)
    other.load_state_dict(monitor.state_dict())
    assert other.kinetic_temperature(since=2 * MOST_SAMPLES) == monitor.kinetic_temperature(since=2 * MOST_SAMPLES)
