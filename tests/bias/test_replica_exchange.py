"""Replica exchange, in torch and compiled, against exact laws; and windows of umbrella sampling, compiled."""

import logging
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from test_boltzmann import linear_neuron, losses_of, mean_at

from nnsim import Box, InputError, Simulation, Trajectory, cv
from nnsim.bias import ReplicaExchange, Umbrella
from nnsim.integrators import FixedStep, HybridMonteCarlo, Langevin, MixedStep, MonteCarlo
from nnsim.platforms import ReferencePlatform
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification

PLATFORMS = {"reference": ReferencePlatform, "native": NativeMonteCarlo}
N = 6  # coordinates of the harmonic energy: at inverse temperature beta it has the Gamma law of shape N / 2


def harmonic(bias: ReplicaExchange, walkers: int, integrator: object = None, **more: object) -> Simulation:
    """E = |q|^2 / 2 as the CV of a flat system in an open box; beta above 0 holds the walkers."""
    system = AnalyticSystem(N, start=0.5)
    chosen = integrator or MonteCarlo(FixedStep(1.0), move="all")
    return Simulation(system, chosen, bias=bias, walkers=walkers, **{"seed": 3, **more})  # type: ignore[arg-type]


def swap_rate(low: float, high: float) -> float:
    """Mean acceptance of a swap of two Gamma energies: with x = E_low - E_high, <min(1, exp((low - high) x))>."""
    u = (np.arange(1000) + 0.5) / 1000
    e, f = (stats.gamma(N / 2, scale=1 / beta).ppf(u) for beta in (low, high))
    return float(np.exp(np.minimum(0.0, (low - high) * (e[:, None] - f))).mean())


# ---------------------------------------------------------------------- exact laws


@pytest.mark.parametrize("kind", ["monte carlo", "hybrid", "langevin"])
def test_every_rung_has_its_law_and_every_pair_its_swap_rate(kind):
    """300 ladders of 4 rungs; errors from the spread over ladders. <E> = N / (2 beta), var E = N / (2 beta^2).

    Langevin's BAOAB has the right variance of the positions at any dt where the energy is harmonic.
    """
    beta, ladders, kT = [1.0, 2.0, 3.5, 8.0], 300, 0.5
    integrator, every, steps = {
        "monte carlo": (MonteCarlo(FixedStep(0.8), kT=kT, move="all"), 4, 700),
        "hybrid": (HybridMonteCarlo(dt=0.25 / kT**0.5, steps=4, kT=kT), 2, 120),
        "langevin": (Langevin(dt=0.25 / kT**0.5, friction=2.0, kT=kT), 5, 600),
    }[kind]
    bias = ReplicaExchange(cv.Energy(Harmonic()), beta, every=every, kT=kT)
    simulation = harmonic(bias, 4 * ladders, integrator, every=2 * every + 1)
    simulation.advance(steps)
    energy, rung = (simulation.history[name] for name in ("energy", "replica_exchange_rung"))
    late = slice(len(energy) // 5, None)
    for k, b in enumerate(beta):
        on = (rung[late] == k).reshape(-1, ladders, 4)
        assert (on.sum(axis=2) == 1).all()  # each ladder has one walker on each rung
        e = energy[late].reshape(on.shape)[on].reshape(-1, ladders)
        for found, exact in ((e.mean(axis=0), N / 2 / b), ((e**2).mean(axis=0), N / 2 * (N / 2 + 1) / b**2)):
            error = found.std(ddof=1) / np.sqrt(ladders)
            assert error < 0.02 * exact
            assert abs(found.mean() - exact) < 4.5 * error, (k, found.mean(), exact, error)
    rates = (bias.swaps / bias.offers).numpy()
    for k, rate in enumerate(rates):
        exact, offers = swap_rate(beta[k], beta[k + 1]), int(bias.offers[k])
        # neighbouring offers are correlated: as if one of four were independent
        assert abs(rate - exact) < 4.5 * np.sqrt(4 * exact * (1 - exact) / offers), (k, rate, exact)
        assert float(bias.swap_probability()[k]) == pytest.approx(rate, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "steps"), [("reference", 4000), ("native", 40_000)])
def test_the_loss_of_a_linear_neuron_on_every_rung(platform, steps):
    """100 ladders of beta = -0.3, 0, 3, 20, against integrals over the box; errors from the spread over ladders."""
    beta, ladders = [-0.3, 0.0, 3.0, 20.0], 100
    bias = ReplicaExchange(cv.Loss("train"), beta, every=steps // 400, kT=2.0)
    simulation = Simulation(
        linear_neuron(), MonteCarlo(FixedStep(0.7), kT=2.0), bias=bias, walkers=400, seed=1, platform=platform,
        precision="double", every=steps // 200,
    )  # fmt: skip
    assert type(simulation.platform) is PLATFORMS[platform]
    simulation.advance(steps)
    loss, rung = (simulation.history[name][40:] for name in ("loss_train", "replica_exchange_rung"))
    assert (bias.round_trips.view(ladders, 4).sum(dim=1) > 0).all()
    s, weights = losses_of(linear_neuron())
    for k, b in enumerate(beta):
        on = (rung == k).reshape(-1, ladders, 4)
        found = loss.reshape(on.shape)[on].reshape(-1, ladders).mean(axis=0)
        error, exact = found.std(ddof=1) / np.sqrt(ladders), mean_at(b, s, weights)
        assert error < 0.02 * exact
        assert abs(found.mean() - exact) < 4.5 * error, (b, found.mean(), exact, error)


@pytest.mark.slow
def test_compiled_umbrella_windows_have_their_law():
    """Windows in L, 100 walkers each, on the linear neuron: exp(-k (L - c)^2 / (2 kT)) against integrals."""
    windows, chains, kT = [(0.05, 200.0), (0.5, 40.0), (1.5, 10.0)], 100, 0.5
    rows = np.repeat(windows, chains, axis=0)
    simulation = Simulation(
        linear_neuron(), MonteCarlo(FixedStep(0.5), kT=kT), bias=Umbrella(cv.Loss("train"), rows[:, 0], rows[:, 1]),
        walkers=len(rows), seed=4, platform="native", precision="double", every=200,
    )  # fmt: skip
    simulation.advance(40_000)
    s, weights = losses_of(linear_neuron())
    found = simulation.history["loss_train"][20:].mean(axis=0).reshape(-1, chains)
    for (center, stiffness), means in zip(windows, found, strict=True):
        tilted = weights * np.exp(-stiffness * (s - center) ** 2 / (2 * kT))
        exact, error = (tilted * s).sum() / tilted.sum(), means.std(ddof=1) / np.sqrt(chains)
        assert error < 0.02 * exact
        assert abs(means.mean() - exact) < 4.5 * error, (center, means.mean(), exact, error)


def test_a_moving_umbrella_goes_to_the_reference():
    system, loss = linear_neuron(), cv.Loss("train")
    for bias, platform in (
        (Umbrella(loss, 0.5, 10.0), NativeMonteCarlo),
        (Umbrella(loss, 0.5, 10.0, velocity=1e-3), ReferencePlatform),
    ):
        assert type(Simulation(system, MonteCarlo(), bias=bias).platform) is platform


# ---------------------------------------------------------------------- swaps


def test_forces_and_energies_belong_to_the_new_rung_after_a_swap():
    bias = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 1.1, 1.2], every=2)
    simulation = harmonic(bias, 3, Langevin(dt=0.1, friction=1.0))
    seen = set()
    for _ in range(40):
        simulation.advance(1)
        state, beta = simulation.state, bias.ladder[bias.rung]
        seen.add(tuple(bias.rung.tolist()))
        torch.testing.assert_close(state.forces, -beta[:, None] * state.positions)
        torch.testing.assert_close(state.bias_energy, beta * 0.5 * state.positions.square().sum(1))
    assert len(seen) > 3


@pytest.mark.slow
def test_positions_stay_with_their_walker_and_trips_are_counted():
    bias = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 1.6, 2.5], every=1)
    simulation = harmonic(bias, 6, MonteCarlo(FixedStep(0.01), move="all"), every=1)
    before = simulation.state.positions.clone()
    simulation.advance(3000)
    assert float((simulation.state.positions - before).abs().max()) < 6  # a walk of 3000 steps of 0.01
    rung = simulation.history["replica_exchange_rung"]
    trips = np.zeros(6, dtype=int)
    for walker in range(6):
        ends = [r for r in [walker % 3, *rung[:, walker]] if r != 1]
        turns = [r for i, r in enumerate(ends) if i == 0 or r != ends[i - 1]]
        trips[walker] = (len(turns) - (turns[0] == 0) if turns[0] == 0 else len(turns) - 1 - 1) // 2
    assert trips.sum() > 50
    np.testing.assert_array_equal(bias.round_trips.numpy(), trips)
    assert simulation.history["replica_exchange_round_trips"][-1] == trips.sum()
    ladder = bias.ladder.numpy()
    np.testing.assert_array_equal(simulation.history["replica_exchange_beta"], ladder[rung])


def test_ladders_do_not_mix():
    bias = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 1.3], every=1)
    simulation = harmonic(bias, 6, every=1)
    simulation.advance(200)
    rung = simulation.history["replica_exchange_rung"].reshape(-1, 3, 2)
    assert (rung.sum(axis=2) == 1).all()
    assert len({tuple(one) for one in rung[:, :, 0]}) == 8  # and they swap on their own


# ---------------------------------------------------------------------- pilot run


@pytest.mark.slow
def test_the_pilot_run_spaces_the_ladder_to_equal_swap_rates(caplog):
    """A harmonic energy rejects alike for equal ratios of beta; the given ladder is linear, and keeps a fifth."""
    beta, pilot = np.linspace(1, 60, 12), 4800
    bias = ReplicaExchange(cv.Energy(Harmonic()), beta, every=10, pilot=pilot)
    simulation = harmonic(bias, 12 * 40, MonteCarlo(FixedStep(0.5), move="all"), every=1000)
    with caplog.at_level(logging.INFO, logger="nnsim"):
        simulation.advance(pilot - 1)
        assert "Lambda" not in caplog.text
        simulation.advance(1)
    assert "Lambda" in caplog.text
    ladder = bias.ladder.numpy().copy()
    assert (ladder[[0, -1]] == beta[[0, -1]]).all()
    assert (np.diff(ladder) > 0).all()
    assert int(bias.offers.sum()) == 0  # what the pilot run counted is forgotten
    simulation.advance(2000)
    assert (bias.ladder.numpy() == ladder).all()
    rates = (bias.swaps / bias.offers).numpy()
    given = [swap_rate(low, high) for low, high in pairwise(beta)]
    assert min(given) < 0.05  # the lowest pair of the given ladder hardly swaps
    assert rates.min() > 0.4
    assert np.ptp(rates) < 0.4 * np.ptp(given)
    # the barrier of a harmonic energy grows with ln beta: nearly even steps of it, up to the given fifth
    steps = np.diff(np.log(ladder))
    assert steps.max() / steps.min() < 2.2


@pytest.mark.slow
def test_the_pilot_run_does_not_change_what_is_sampled():
    """As the first test, after a pilot run: 300 ladders."""
    bias = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 1.5, 20.0], every=4, pilot=640)
    simulation = harmonic(bias, 900, MonteCarlo(FixedStep(0.7), move="all"), every=7)
    simulation.advance(1750)
    energy, rung = (simulation.history[name][120:] for name in ("energy", "replica_exchange_rung"))
    assert 2 < float(bias.ladder[1]) < 8
    for k, b in enumerate(bias.ladder.tolist()):
        on = (rung == k).reshape(-1, 300, 3)
        e = energy.reshape(on.shape)[on].reshape(-1, 300).mean(axis=0)
        error = e.std(ddof=1) / np.sqrt(300)
        assert error < 0.02 * N / 2 / b
        assert abs(e.mean() - N / 2 / b) < 4.5 * error


# ---------------------------------------------------------------------- resume, record and bad input


def test_a_ladder_belongs_to_one_simulation():
    """A second simulation would change it under the first; equal ladders give equal runs."""

    def ladder() -> ReplicaExchange:
        return ReplicaExchange(cv.Energy(Harmonic()), [1.0, 2.0, 9.0], every=2, pilot=320)

    used, runs = ladder(), []
    for bias in (used, ladder()):
        simulation = harmonic(bias, 6, Langevin(0.2, 1.0), every=10).advance(401)
        runs.append({**bias.state_dict(), "q": simulation.state.positions})
    assert runs[0]["ladder"][1] != 2.0
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    with pytest.raises(InputError, match="the bias 'replica_exchange' was used in another simulation"):
        harmonic(used, 6, Langevin(0.2, 1.0))
    assert torch.equal(used.ladder, runs[0]["ladder"])


def test_the_pilot_run_ends_with_a_round_of_swaps():
    bias = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 2.0, 9.0], every=3, pilot=500)
    assert bias.pilot == bias.describe()["pilot"] == 501
    simulation = harmonic(bias, 3).advance(501)
    ladder = bias.ladder.clone()
    assert ladder[1] != 2.0
    assert int(bias.offers.sum()) == 0
    simulation.advance(30)
    assert torch.equal(bias.ladder, ladder)


def small(kind: str, **more: object) -> Simulation:
    """Four walkers of a small network on two ladders, with a pilot run."""
    integrator = {
        "native": MonteCarlo(MixedStep(1e-2, 1.0)),
        "reference": MonteCarlo(MixedStep(1e-2, 1.0)),
        "langevin": Langevin(dt=0.02, friction=1.0),
        "hybrid": HybridMonteCarlo(dt=0.02, steps=2, refreshment=0.5),
    }[kind]
    bias = ReplicaExchange(cv.Loss("train"), [0.0, 5.0], every=2, pilot=320)
    return Simulation(
        spiral_classification(hidden=(4,), points_per_class=5, box=Box(3.0)), integrator, bias=bias, walkers=4, seed=2,
        every=10, checkpoint_every=70, platform="native" if kind == "native" else "reference", **more,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "half"),
    [("native", 201), ("native", 402), ("reference", 402), ("langevin", 201), ("hybrid", 201), ("hybrid", 402)],
)
def test_resume_is_bitwise(tmp_path, kind, half):
    """In the pilot run, which ends after 320 steps, and behind it."""
    end = half + 150
    whole = small(kind).run(end, output=tmp_path / "whole.zarr", progress=False)
    small(kind).run(half, output=tmp_path / "parts.zarr", progress=False)
    parts = small(kind).run(end, output=tmp_path / "parts.zarr", resume=True, progress=False)
    assert torch.equal(whole.state.positions, parts.state.positions)
    one, other = (run.force_field.biases[0].state_dict() for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    runs = [Trajectory(tmp_path / name) for name in ("whole.zarr", "parts.zarr")]
    for name in runs[0].observables:
        np.testing.assert_array_equal(runs[0][name][:], runs[1][name][:])


def test_threads_and_pieces_do_not_change_the_native_result():
    runs = [small("native", threads=threads) for threads in (1, 2)]
    runs[0].advance(900)
    for _ in range(9):
        runs[1].advance(100)
    torch.set_num_threads(1)
    assert torch.equal(runs[0].state.positions, runs[1].state.positions)


@pytest.mark.slow
def test_what_the_trajectory_holds(tmp_path):
    simulation = small("native")
    simulation.run(600, output=tmp_path / "run.zarr", progress=False)
    run, bias = Trajectory(tmp_path / "run.zarr"), simulation.force_field.biases[0]
    assert run["replica_exchange_rung"][:].shape == (60, 4)
    assert run["replica_exchange_swap_rate"][:].shape == (60, 1)
    assert run.bias("replica_exchange").attrs["type"] == "ReplicaExchange"
    np.testing.assert_array_equal(run.bias("replica_exchange").tables["beta"], bias.ladder)


@pytest.mark.parametrize(
    ("beta", "settings", "message"),
    [
        ([1.0], {}, "beta .* at least 2 ascending"),
        ([1.0, 0.5], {}, "beta .* ascending"),
        ([1.0, 1.0], {}, "beta .* ascending"),
        ([0.0, np.nan], {}, "beta"),
        ("hot", {}, "beta"),
        ([0.0, 1.0], {"every": 0}, "every"),
        ([0.0, 1.0], {"pilot": -1}, "pilot"),
        ([0.0, 1.0], {"pilot": 100}, "pilot = 100 .* make it longer"),
        ([0.0, 1.0], {"kT": 0.0}, "kT"),
    ],
)
def test_bad_input(beta, settings, message):
    with pytest.raises(InputError, match=f"ReplicaExchange: {message}"):
        ReplicaExchange(cv.Loss(), beta, **settings)
    with pytest.raises(InputError, match="ReplicaExchange: cv"):
        ReplicaExchange("loss", [0.0, 1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("walkers", [1, 3])
def test_another_number_of_walkers_is_refused(walkers):
    bias = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 2.0])
    with pytest.raises(InputError, match=f"{walkers} walkers on 2 rungs"):
        harmonic(bias, walkers)
