"""Nose-Hoover chains: conserved quantity, exact averages, what one chain cannot do, resume and bad input."""

import numpy as np
import pytest
import torch
from conftest import statistics_scale

from nnsim import Box, InputError, Simulation
from nnsim.integrators import ConservedQuantity, NoseHoover
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic

CASES = 4 if statistics_scale() == 1 else 2


def simulation(system, integrator, walkers: int, every: int = 1, seed: int = 1) -> Simulation:
    return Simulation(
        system, integrator, walkers=walkers, seed=seed, precision="double", every=every, positions_every=every,
        observe=[ConservedQuantity()], threads=1,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("massive", "chain", "substeps"), [(False, 3, 1), (True, 3, 1), (True, 1, 2), (False, 5, 2)])
def test_conserved_quantity_drifts_as_the_square_of_the_time_step(massive, chain, substeps):
    drifts = []
    for dt in (0.04, 0.02):
        system = AnalyticSystem(4, DoubleWell(barrier=2.0, coupling=1.0), start=1.0)
        integrator = NoseHoover(dt, 1.0, massive=massive, chain=chain, substeps=substeps)
        running = simulation(system, integrator, walkers=64)
        running.advance(round(4 * statistics_scale(0.5) / dt))
        conserved = running.history["conserved_quantity"]
        drifts.append(np.sqrt(np.mean((conserved - conserved[0]) ** 2)))
    assert 1.9 < np.log2(drifts[0] / drifts[1]) < 2.1
    assert drifts[1] < 0.02


def plane_averages(potential: DoubleWell, kT: float) -> dict[str, float]:
    """Exact averages for two coordinates by quadrature."""
    line = torch.linspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    energy = potential(grid)
    weight = torch.softmax(-energy / kT, 0)
    return {
        "product": float(weight @ (grid[:, 0] * grid[:, 1])),
        "square": float(weight @ grid.square().sum(1)),
        "energy": float(weight @ energy),
    }


def averages_over_walkers(values: np.ndarray) -> tuple[float, float]:
    """Mean of [T, W], and its standard error from the independent walkers."""
    each = values.mean(axis=0)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


@pytest.mark.slow
@pytest.mark.parametrize(("massive", "kT"), [(True, 0.5), (False, 1.0), (True, 1.0), (False, 0.5)][:CASES])
def test_averages_of_a_coupled_anharmonic_system(massive, kT):
    """1000 walkers for 20 time units after 10 to forget the start; the error of the step of 0.05 is below 0.3 %."""
    potential = DoubleWell(barrier=1.0, coupling=1.0)
    start = torch.tensor([1.0, -1.0]).repeat(500)[:, None].expand(1000, 2)  # both wells alike
    running = simulation(AnalyticSystem(2, potential, start=start), NoseHoover(0.05, 1.0, kT, massive=massive), 1000, 4)
    running.advance(600)
    q = running.history["position"][50:]
    kinetic = running.history["kinetic_temperature"][50:]
    found = {
        "product": q[..., 0] * q[..., 1],
        "square": (q**2).sum(-1),
        "energy": potential(torch.from_numpy(q.reshape(-1, 2))).numpy().reshape(q.shape[:2]),
    }
    for name, expected in {**plane_averages(potential, kT), "kinetic": kT}.items():
        mean, error = averages_over_walkers(kinetic if name == "kinetic" else found[name])
        assert error < 0.02 * abs(expected), name
        assert abs(mean - expected) < 4.5 * error + 0.003 * abs(expected), name
    # sum m v^2 / kT of two degrees of freedom has variance 4, that is the kinetic temperature kT^2
    mean, error = averages_over_walkers((kinetic - kT) ** 2)
    assert abs(mean - kT**2) < 4.5 * error + 0.005 * kT**2


@pytest.mark.slow
def test_one_chain_cannot_turn_a_central_motion_around_and_massive_chains_can():
    """A thermostat common to all scales the angular momentum by a positive number: its sign never changes."""
    turned = {}
    for massive in (False, True):
        running = simulation(AnalyticSystem(2, Harmonic(1.0), start=1.0), NoseHoover(0.1, 1.0, massive=massive), 50, 10)
        first = angular_momentum(running)
        running.advance(300)
        turned[massive] = int((first * angular_momentum(running) < 0).sum())
    assert turned[False] == 0
    assert 10 < turned[True] < 40  # of 50, each with probability 1/2: 4 standard deviations are 14


def angular_momentum(running: Simulation) -> torch.Tensor:
    q, v = running.state.positions, running.state.velocities
    return q[:, 0] * v[:, 1] - q[:, 1] * v[:, 0]


@pytest.mark.slow
def test_masses_and_a_reflecting_box():
    """Free particles of masses 1 and 4 in a box: uniform places, equal temperatures; 600 walkers."""
    masses = torch.tensor([1.0, 4.0])
    system = AnalyticSystem(2, box=Box(1.0), start="uniform")
    running = simulation(system, NoseHoover(0.05, 0.5, massive=True, masses=masses), 600, 10)
    running.advance(400)
    q, v = running.history["position"], running.state.velocities.numpy()
    for d in range(2):
        mean, error = averages_over_walkers(q[..., d] ** 2)
        assert abs(mean - 1 / 3) < 4.5 * error
        each = masses[d].item() * v[:, d] ** 2
        assert abs(each.mean() - 1) < 4.5 * each.std() / np.sqrt(len(each))


@pytest.mark.slow
def test_resume_is_bitwise(tmp_path):
    def make() -> Simulation:
        system = AnalyticSystem(3, DoubleWell(coupling=1.0), start=1.0)
        return simulation(system, NoseHoover(0.05, 1.0, massive=True), 4, 5)

    whole = make().run(80, output=tmp_path / "whole.zarr", progress=False)
    make().run(35, output=tmp_path / "parts.zarr", progress=False)
    parts = make().run(80, output=tmp_path / "parts.zarr", resume=True, progress=False)
    a, b = whole.state.state_dict(), parts.state.state_dict()
    assert torch.equal(a["positions"], b["positions"])
    assert torch.equal(a["velocities"], b["velocities"])
    for name, values in a["integrator_state"].items():
        assert torch.equal(values, b["integrator_state"][name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0.0}, "NoseHoover: dt"),
        ({"tau": -1.0}, "NoseHoover: tau"),
        ({"kT": 0.0}, "NoseHoover: kT"),
        ({"chain": 0}, "NoseHoover: chain"),
        ({"substeps": 1.5}, "NoseHoover: substeps"),
        ({"massive": "no"}, "NoseHoover: massive = 'no' must be True or False"),
        ({"masses": -1.0}, "NoseHoover: masses"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        NoseHoover(**{"dt": 0.1, "tau": 1.0, **arguments})
