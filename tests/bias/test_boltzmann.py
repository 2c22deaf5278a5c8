"""Boltzmann sampling exp(-beta s), in torch and compiled, against exact answers, and what is made of its runs."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import arrays_of, error_of, nnsim
from conftest import statistics_scale

from nnsim import Bias, Box, Grid, InputError, Simulation, Trajectory, TrajectoryError, cv
from nnsim.analysis import boltzmann_averages, boltzmann_settings, equilibrium
from nnsim.analysis.averages.equilibrium import NARROW
from nnsim.bias import Boltzmann, Wall, WangLandau
from nnsim.integrators import Acceptance, FixedStep, Langevin, MixedStep, MonteCarlo
from nnsim.platforms import ReferencePlatform
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork, spiral_classification
from nnsim.systems.modules import mlp
from nnsim.trajectory.writer import TrajectoryWriter

EXAMPLE = Path(__file__).parents[2] / "examples" / "spiral_boltzmann.py"
PLATFORMS = {"reference": ReferencePlatform, "native": NativeMonteCarlo}
LIMIT = 1.5  # of the box of the systems with exact answers


def linear_neuron() -> NeuralNetwork:
    """Two inputs, one output, squared loss, targets that it can fit: L is a quadratic form of the three parameters."""
    generator = np.random.default_rng(5)
    x = torch.from_numpy(generator.normal(size=(12, 2)))
    y = x @ torch.tensor([[0.3], [-0.2]], dtype=torch.float64) + 0.1
    return NeuralNetwork(mlp((2, 1)), (x, y), (x, y), loss="mse", box=Box(LIMIT), initial="uniform")


def losses_of(system: NeuralNetwork) -> tuple[np.ndarray, np.ndarray]:
    """L at the nodes of a Gauss-Legendre rule on the box, and the weights, which give averages to 1e-9 or better."""
    x, y = (values.double().numpy() for values in system.data("train"))
    nodes, weights = np.polynomial.legendre.leggauss(48)
    q = np.stack(np.meshgrid(*[LIMIT * nodes] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    residual = q @ np.concatenate((x, np.ones((len(x), 1))), axis=1).T - y[:, 0]
    return (residual**2).mean(axis=1), np.einsum("i,j,k->ijk", weights, weights, weights).reshape(-1)


def mean_at(beta: float, s: np.ndarray, weights: np.ndarray) -> float:
    """<s> under exp(-beta s)."""
    tilted = weights * np.exp(-beta * (s - s.mean()))
    return float((tilted * s).sum() / tilted.sum())


def neuron_run(
    platform: str, beta: list[float], steps: int, ramp: int, path: Path | None, kT: float = 1.0
) -> Simulation:
    """A run of the linear neuron, of 200 frames."""
    simulation = Simulation(
        linear_neuron(), MonteCarlo(FixedStep(0.7), kT=kT), bias=Boltzmann(cv.Loss("train"), beta, ramp=ramp, kT=kT),
        observe=[Acceptance()], walkers=len(beta), seed=1, platform=platform, precision="double", every=steps // 200,
    )  # fmt: skip
    assert type(simulation.platform) is PLATFORMS[platform]
    return simulation.run(steps, output=path, progress=False)


# ---------------------------------------------------------------------- exact answers


@pytest.mark.slow
def test_langevin_at_each_beta_has_the_mean_energy_of_its_law():
    """Three coordinates in a box with E = |q|^2 / 2 as the CV; 120 walkers a beta, 180 frames, one in a unit of time.

    The coordinates are independent, so <E> is three times an integral over one. The box reflects, which leaves an error
    of order dt^2, far below the standard error.
    """
    betas, kT = (-1.0, 0.0, 2.0, 10.0), 2.0
    energy = cv.Energy(Harmonic())
    bias = Boltzmann(energy, np.repeat(betas, 120), ramp=200, kT=kT)
    simulation = Simulation(
        AnalyticSystem(3, box=Box(LIMIT)), Langevin(dt=0.05, friction=1.0, kT=kT), bias=bias, walkers=480, seed=2,
        every=20,
    )  # fmt: skip
    simulation.advance(4000)
    frames = simulation.history["energy"][20:]  # without twice the ramp
    nodes, weights = np.polynomial.legendre.leggauss(200)
    s = 0.5 * (LIMIT * nodes) ** 2
    for beta, chains in zip(betas, np.split(frames.mean(axis=0), len(betas)), strict=True):
        error = chains.std(ddof=1) / np.sqrt(len(chains))
        expected = 3 * mean_at(beta, s, weights)
        assert error < 0.02 * expected
        assert abs(chains.mean() - expected) < 4.5 * error, beta


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "steps", "kT"), [("reference", 4000, 0.5), ("native", 40_000, 2.0)])
def test_monte_carlo_at_each_beta_has_the_mean_loss_of_its_law(tmp_path, platform, steps, kT):
    """The linear neuron, 100 chains a beta; the error is that of the spread over chains, and beta is per unit of L."""
    betas = [-0.3, 0.0, 3.0, 20.0]
    neuron_run(platform, np.repeat(betas, 100).tolist(), steps, steps // 4, tmp_path / "run.zarr", kT)
    run = Trajectory(tmp_path / "run.zarr")
    rows = boltzmann_averages(run, "acceptance", given="loss_train", since=0.3)
    s, weights = losses_of(linear_neuron())
    assert [row["beta"] for row in rows] == betas
    for row in rows:
        mean, error, expected = row["loss_train"], row["loss_train_error"], mean_at(row["beta"], s, weights)
        assert row["chains"] == 100
        assert error < 0.02 * expected
        assert abs(mean - expected) < 4.5 * error, row
        assert 0 < row["acceptance"] < 1
    # the wide box hardly cuts the Gaussian of the highest beta: three degrees of freedom with 1 / (2 beta) each
    assert mean_at(20.0, s, weights) == pytest.approx(3 / 40, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "steps"), [("reference", 8000), ("native", 80_000)])
def test_a_ramp_beyond_the_end_samples_the_beta_of_the_moment(platform, steps):
    """With ramp = 4 x steps beta rises to a quarter, 200 chains, 40 frames; <L> lags by some 50 moves, 1 % and less."""
    final, chains = 40.0, 200
    simulation = neuron_run(platform, [final] * chains, steps, 4 * steps, None)
    s, weights = losses_of(linear_neuron())
    now = final * simulation.history.steps("loss_train") / (4 * steps)
    for part in (slice(60, 100), slice(160, 200)):
        expected = np.mean([mean_at(beta, s, weights) for beta in now[part]])
        found = simulation.history["loss_train"][part].mean(axis=0)
        error = found.std(ddof=1) / np.sqrt(chains)
        assert error < 0.02 * expected
        assert abs(found.mean() - expected) < 4.5 * error
        assert found.mean() > 2 * mean_at(final, s, weights)  # far from what the full beta would give


# ---------------------------------------------------------------------- the ramp


def test_the_slope_rises_from_zero_to_kT_beta():
    bias = Boltzmann(cv.Loss(), [3.0, -1.0], ramp=100, kT=0.5)
    for step, part in ((0, 0.0), (50, 0.5), (100, 1.0), (200, 1.0)):
        assert bias.slope(2, step).tolist() == [1.5 * part, -0.5 * part]
        s = torch.tensor([[2.0], [4.0]], dtype=torch.float64)
        assert bias.energy(s, step).tolist() == [3.0 * part, -2.0 * part]
        assert bias.gradient(s, step).tolist() == [[1.5 * part], [-0.5 * part]]
    assert Boltzmann(cv.Loss(), [3.0]).slope(1, 0).tolist() == [3.0]  # no ramp: the full beta at once


def small(kind: str, ramp: int = 300, **more: object) -> Simulation:
    """Three walkers of a small network on the spiral, every 50 steps."""
    integrator = Langevin(0.01, 1.0) if kind == "langevin" else MonteCarlo(MixedStep(0.01, 1.0))
    more = {"every": 50, "observe": [cv.LogLoss("train"), cv.Accuracy("test")], "seed": 4} | more
    bias = Boltzmann(cv.Loss("train"), [0.0, 5.0, -0.5], ramp=ramp)
    platform = "reference" if kind == "langevin" else kind
    return Simulation(spiral_classification((3,)), integrator, bias=bias, walkers=3, platform=platform, **more)


@pytest.mark.parametrize("kind", ["langevin", *PLATFORMS])
def test_the_recorded_bias_energy_is_that_of_the_moment(kind):
    simulation = small(kind).run(600)
    history = simulation.history
    rise = np.minimum(1.0, history.steps("bias_energy") / 300)[:, None]
    np.testing.assert_allclose(history["bias_energy"], rise * [0.0, 5.0, -0.5] * history["loss_train"], rtol=1e-12)
    np.testing.assert_allclose(history["loss_train"], np.exp(history["ln_loss_train"]), rtol=1e-5)
    assert not history["potential_energy"].any()  # U = 0: the tilt is the bias's, not the system's
    assert simulation.force_field.energies(simulation.state.positions, 600)[1].tolist() == pytest.approx(
        simulation.state.bias_energy.tolist(), rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["langevin", *PLATFORMS])
def test_resume_in_the_middle_of_the_ramp_is_bitwise(tmp_path, kind):
    whole = small(kind).run(500, output=tmp_path / "whole.zarr", progress=False)
    small(kind).run(170, output=tmp_path / "parts.zarr", progress=False)
    parts = small(kind).run(500, output=tmp_path / "parts.zarr", resume=True, progress=False)
    for name in ("positions", "velocities", "energy", "cvs", "bias_energy"):
        assert torch.equal(getattr(whole.state, name), getattr(parts.state, name)), name
    one, other = arrays_of(tmp_path / "whole.zarr"), arrays_of(tmp_path / "parts.zarr")
    assert one == other
    assert "observables/bias_energy/value" in one


def test_threads_and_pieces_do_not_change_the_native_result():
    whole, pieces = small("native", threads=1).advance(1000), small("native", threads=1)
    pieces.threads = 2
    pieces.platform = NativeMonteCarlo(pieces)
    for part in (1, 299, 77, 623):
        pieces.advance(part)
    assert torch.equal(whole.state.positions, pieces.state.positions)
    assert torch.equal(whole.state.bias_energy, pieces.state.bias_energy)


def test_another_cv_goes_to_the_reference():
    for one in (cv.LogLoss("train"), cv.Loss("test"), cv.WeightNorm()):
        bias = Boltzmann(one, [1.0, 2.0])
        simulation = Simulation(spiral_classification((3,)), MonteCarlo(), bias=bias, walkers=2)
        assert type(simulation.advance(2).platform) is ReferencePlatform
        with pytest.raises(InputError, match="on the train loss; use platform='reference'"):
            Simulation(spiral_classification((3,)), MonteCarlo(), bias=bias, walkers=2, platform="native")


class Quadratic(Bias):
    """V = beta L^2, which looks like a Boltzmann bias to a hasty eye."""

    name, beta, cvs = "quadratic", [1.0], (cv.Loss("train"),)

    def energy(self, s, step):
        return s[:, 0] ** 2


class Steeper(Boltzmann):
    """Another energy under the same attributes."""

    def energy(self, s, step):
        return 2 * super().energy(s, step)


def test_a_bias_of_your_own_goes_to_the_reference():
    for bias in (Quadratic(), Steeper(cv.Loss("train"), [1.0])):
        assert type(Simulation(spiral_classification((3,)), MonteCarlo(), bias=bias).platform) is ReferencePlatform


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("beta", "settings", "message"),
    [
        ([1.0, float("nan")], {}, "beta = nan must be a finite number; change beta"),
        ([float("inf")], {}, "beta = inf must be a finite number"),
        ([], {}, r"beta = \[\] must be a list of numbers, but is empty"),
        (3.0, {}, r"beta = 3.0 must be a list of numbers; for a single one give \[beta\]"),
        (np.float64(3.0), {}, "must be a list of numbers"),
        (torch.tensor(3.0), {}, "must be a list of numbers"),
        ([[1.0, 2.0]], {}, "must be a list of numbers"),
        (["1.0"], {}, "must be a list of numbers"),
        ("12", {}, "must be a list of numbers"),
        (None, {}, "beta = None must be a list of numbers"),
        ([1.0], {"ramp": -1}, "ramp = -1 must be a whole number of at least 0"),
        ([1.0], {"ramp": 0.5}, "ramp = 0.5 must be a whole number"),
        ([1.0], {"kT": 0.0}, "kT = 0 must be a finite number above 0"),
    ],
)
def test_bad_input(beta, settings, message):
    with pytest.raises(InputError, match=rf"Boltzmann: .*{message}"):
        Boltzmann(cv.Loss(), beta, **settings)


def test_numbers_of_any_kind_are_taken():
    for beta in ((1, 2), np.array([1, 2]), torch.tensor([1.0, 2.0]), range(1, 3)):
        assert Boltzmann(cv.Loss(), beta).beta == [1.0, 2.0]
    with pytest.raises(InputError, match="Boltzmann: cv = 'loss' must be a collective variable"):
        Boltzmann("loss", [1.0])


@pytest.mark.parametrize("integrator", [MonteCarlo(), Langevin(0.01, 1.0)])
@pytest.mark.parametrize("walkers", [1, 3])
def test_another_number_of_walkers_is_refused(integrator, walkers):
    bias = Boltzmann(cv.Loss(), [1.0, 2.0])
    with pytest.raises(InputError, match=f"Boltzmann: 2 values of beta for {walkers} walkers; give each walker one"):
        Simulation(spiral_classification((3,)), integrator, bias=bias, walkers=walkers)


def test_another_temperature_than_that_of_the_integrator_is_refused():
    with pytest.raises(InputError, match="bias 'boltzmann' has kT = 1 but MonteCarlo has kT = 2; make them equal"):
        Simulation(spiral_classification((3,)), MonteCarlo(kT=2.0), bias=Boltzmann(cv.Loss(), [1.0]))


# ---------------------------------------------------------------------- what is made of a run


def test_averages_begin_after_the_ramp_and_have_the_spread_over_chains(tmp_path):
    bias = Boltzmann(cv.Loss("train"), [5.0, 1.0, 5.0, 5.0], ramp=800)
    observe = [cv.LogLoss("train"), cv.Accuracy("test")]
    system = spiral_classification((3,))
    Simulation(system, MonteCarlo(), bias=bias, observe=observe, walkers=4, every=50).run(
        1000, output=tmp_path / "run.zarr", progress=False
    )
    run = Trajectory(tmp_path / "run.zarr")
    assert boltzmann_settings(run)["beta"] == [5.0, 1.0, 5.0, 5.0]
    for since, first in ((0.0, 800), (0.5, 800), (0.85, 850), (0.9, 900)):
        low, high = boltzmann_averages(run, "accuracy_test", since=since)
        assert (low["beta"], low["chains"], high["beta"], high["chains"]) == (1.0, 1, 5.0, 3)
        for name in ("ln_loss_train", "accuracy_test"):
            chains = run[name][:][run[name].step > first].mean(axis=0)
            assert low[name] == pytest.approx(chains[1])
            assert np.isnan(low[f"{name}_error"])
            assert high[name] == pytest.approx(chains[[0, 2, 3]].mean())
            assert high[f"{name}_error"] == pytest.approx(chains[[0, 2, 3]].std(ddof=1) / np.sqrt(3))
        table = equilibrium(run, "ln_loss_train", "accuracy_test", width=1.0, since=since)
        assert table.frames.sum() == 4 * np.count_nonzero(run["loss_train"].step > first)
    for since in (-0.1, 1.0, float("nan")):
        for average in (boltzmann_averages, equilibrium):
            names = ("accuracy_test",) if average is boltzmann_averages else ("loss_train", "accuracy_test")
            with pytest.raises(InputError, match=f"{average.__name__}: since = .* must be at least 0 and below 1"):
                average(run, *names, since=since)


def test_equilibrium_is_given_any_observable(tmp_path):
    """At given loss all chains weigh alike; at other observables the values of beta are combined by MBAR."""
    small("native", observe=[cv.LogLoss("train"), cv.LogLoss("test"), cv.Accuracy("test")]).run(
        600, output=tmp_path / "run.zarr", progress=False
    )
    run = Trajectory(tmp_path / "run.zarr")
    for given in ("loss_train", "ln_loss_train", "ln_loss_test"):
        assert equilibrium(run, given, "accuracy_test").frames.sum() == 18
    with pytest.raises(TrajectoryError, match="has no observable 'ln_ln_loss_train'"):
        equilibrium(run, "ln_ln_loss_train", "accuracy_test")
    assert "has no observable 'nothing'" in error_of(
        "analyze", "equilibrium", run.path, "--given", "nothing", "--of", "accuracy_test"
    )


@pytest.mark.slow
def test_runs_without_a_boltzmann_average_are_refused(tmp_path):
    system, loss = spiral_classification((3,)), cv.Loss("train")
    flat, growing = (WangLandau(loss, Grid(0.0, 50.0, bins=10), InverseTime(0.1, 10.0)) for _ in range(2))
    tilt, second = Boltzmann(loss, [1.0]), Boltzmann(cv.Loss("test"), [1.0], name="second")
    late = Boltzmann(loss, [1.0], ramp=20)
    for name, biases, message in (
        ("plain", [], "plain.zarr has no Boltzmann bias; give the trajectory of a run with one"),
        ("flat", [flat], "flat.zarr has no Boltzmann bias"),
        ("two", [tilt, second], "two.zarr has the biases boltzmann, second, each with states .* alone among such"),
        ("late", [late], "late.zarr ends at step 20, before beta has risen for 20 steps; run longer"),
    ):
        path = tmp_path / f"{name}.zarr"
        observe = [loss, cv.LogLoss("train"), cv.Accuracy("test")]
        Simulation(system, MonteCarlo(), bias=biases, observe=observe, every=10, platform="reference").run(
            20, output=path, progress=False
        )
        with pytest.raises(InputError, match=message):
            boltzmann_averages(Trajectory(path), "accuracy_test")
        assert error_of("analyze", "boltzmann", path, "--of", "accuracy_test")
    with pytest.raises(InputError, match=r"late.zarr ends at step 20, before the first 20 steps of the bias"):
        equilibrium(Trajectory(tmp_path / "late.zarr"), "loss_train", "accuracy_test")
    for name, other in (("both", growing), ("wall", Wall(loss, upper=1e9))):
        path = tmp_path / f"{name}.zarr"
        Simulation(system, MonteCarlo(), bias=[tilt, other], observe=observe, every=10, platform="reference").run(
            20, output=path, progress=False
        )
        assert len(boltzmann_averages(Trajectory(path), "accuracy_test")) == 1


def test_the_command_line(tmp_path):
    """The example in small, and both tables of it, on the screen and as CSV files."""
    path = tmp_path / "run.zarr"
    small_run = ("temperatures=2", "chains=3", "every=50", "width=3", "threads=1", "ramp=400")
    settings = [word for setting in small_run for word in ("--set", setting)]
    assert nnsim("run", EXAMPLE, *settings, "--steps", "1000", "--output", path).status == 0
    run = Trajectory(path)
    result = nnsim("analyze", "boltzmann", path, "--of", "accuracy_test", "-o", tmp_path / "beta.csv")
    assert result.status == 0, result.err
    rows = boltzmann_averages(run, "accuracy_test")
    assert [row["beta"] for row in rows] == [0.0, 1.0, 3.0, 10.0, 10_000.0]
    with (tmp_path / "beta.csv").open() as file:
        assert [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)] == rows
    for row in rows:
        assert f"{row['accuracy_test']:.3f} ± {row['accuracy_test_error']:.3f}" in result.out
    result = nnsim("analyze", "equilibrium", path, "--of", "accuracy_test", "-o", tmp_path / "given.csv")
    assert result.status == 0, result.err
    assert "equilibrium accuracy_test at given ln_loss_train" in result.out
    assert "round trips" not in result.out  # those are of a Wang-Landau run
    with (tmp_path / "given.csv").open() as file:
        frames = sum(int(row["frames"]) for row in csv.DictReader(file))
    assert frames == 15 * np.count_nonzero(run["ln_loss_train"].step > 500)
    both = ("--of", "ln_loss_train")
    assert "of and given are both 'ln_loss_train'; name two observables" in error_of(
        "analyze", "boltzmann", path, *both
    )
    assert "has no observable 'nothing'" in error_of("analyze", "boltzmann", path, "--of", "nothing")


def test_chains_of_one_beta_that_are_neighbours_still_tell_the_error(tmp_path):
    """16 beta x 4 chains of 50 frames, each beta at an s of its own, y independent noise of unit width.

    The square of an error has 3 degrees of freedom and 16 of them 48: their mean is within a factor of 2.
    """
    beta, rng = np.repeat(np.arange(16.0), 4).tolist(), np.random.default_rng(0)
    settings = {"type": "Boltzmann", "cvs": ["s"], "beta": beta, "ramp": 0}
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"parameters": {"w": [1]}, "bias": {"boltzmann": settings}})
    for step in range(1, 51):
        writer.append("observables/s", step, float(step), np.array(beta) + 0.1)
        writer.append("observables/y", step, float(step), rng.standard_normal(64))
    writer.close()
    table = equilibrium(Trajectory(tmp_path / "run.zarr"), "s", "y", width=1.0, since=0.0)
    assert table.frames.tolist() == [200] * 16
    assert 0.5 < (table.error**2).mean() * 200 < 2
    assert (np.abs(table.mean) < 5 / np.sqrt(200)).all()


@pytest.mark.slow
def test_the_mean_accuracy_at_given_loss_is_that_of_plain_sampling(tmp_path):
    """2-2-2 on the spiral, 12 parameters in a box of +-2: 8 beta x 16 chains against uniform draws, 12 million in full.

    At values of ln L: bins of 0.1 by a parabola, against the plain mean of draws in the middle fifth of each bin. 20
    bins or more within 5 combined standard errors, and those honest, by the mean square of the deviations in units of
    them.
    """
    system = spiral_classification((2,), box=Box(2.0))
    beta = np.repeat([-0.5, 0.0, 1.0, 3.0, 10.0, 30.0, 60.0, 100.0], 16)
    steps = int(200_000 * statistics_scale(0.25))
    bias = Boltzmann(cv.Loss("train"), beta, ramp=steps // 5)
    Simulation(
        system, MonteCarlo(MixedStep(0.05, 4.0)), bias=bias, walkers=len(beta), seed=0, threads=2, every=100,
        observe=[cv.LogLoss("train"), cv.Accuracy("train")],
    ).run(steps, output=tmp_path / "run.zarr", progress=False)  # fmt: skip
    table = equilibrium(Trajectory(tmp_path / "run.zarr"), "ln_loss_train", "accuracy_train", width=0.1, since=0.2)
    edges = np.linspace(table.edges[0], table.edges[-1], NARROW * (len(table.edges) - 1) + 1)  # five to a bin
    sums, generator = np.zeros((3, len(edges) - 1)), torch.Generator().manual_seed(0)
    for _ in range(int(240 * statistics_scale(0.25))):
        q = system.box.uniform(50_000, system.size, generator)
        outputs = system.forward(q, ("train",))["train"]
        ln_loss = torch.log(system.loss(outputs, "train")).double().numpy()
        accuracy = (outputs.argmax(-1) == system.targets("train")).double().mean(-1).numpy()
        sums += [np.histogram(ln_loss, edges, weights=accuracy**power)[0] for power in range(3)]
    count, first, second = np.maximum(sums, 1e-300).reshape(3, -1, NARROW)[..., NARROW // 2]
    enough = (count >= 30) & (table.frames > 500)
    expected = (first / count)[enough]
    variance = ((second / count - (first / count) ** 2) / count)[enough]
    assert enough.sum() >= 20
    assert np.ptp(expected) > 0.1  # there is something to be seen
    error = np.sqrt(variance + table.error[enough] ** 2)
    assert error.max() < 0.02
    deviation = (table.mean[enough] - expected) / error
    assert np.abs(deviation).max() < 5
    assert 0.4 < (deviation**2).mean() < 2
